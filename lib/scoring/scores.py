"""Scores of predictions, per target and as the mean over targets, with intervals by bootstrap over videos."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lib.core.targets import TargetGroup

MIN_VIDEOS = 10
"""Scores of fewer videos that know the target get no interval; a bootstrap's would be far too narrow."""

_MOMENTS = 14


class Bootstrap(NamedTuple):
    """How often videos are resampled for intervals and permutation tests, and the seed of these draws."""

    resamples: int
    seed: int

    def rng(self) -> np.random.Generator:
        """Return a generator at its start: equal draws for every table."""
        return np.random.default_rng(self.seed)


def score_columns(
    actual: np.ndarray, predicted: np.ndarray, columns: Sequence[str], span: float
) -> dict[str, dict[str, float | None]]:
    """Return {score: {"mean": ..., column: ...}} for arrays (N, K) of K columns; a score that is not defined is None.

    `actual` is NaN where it is unknown: each column is scored on the clips that know it, "mean" is the mean over columns.
    accuracy is 1 - MAE / span for targets whose range is `span` wide (Ponce-López et al. 2016, ChaLearn LAP 2016,
    equation 1, where span is 1); all others are in the targets' units. R² is against the mean of `actual`;
    CCC is Lin's (1989) with population moments; it and R² are not defined for constant targets, the correlations for
    constant values. bias is the mean of predicted - actual,
    std_ratio the predictions' standard deviation over the targets', regression_to_mean 1 - the
    slope of the predictions over the targets: 0 where extremes are predicted as such, 1 where all come out as the mean.
    calibration_slope is the slope of the targets over the predictions: 1 for a calibrated predictor, whose regression to the
    mean is 1 - R².
    """
    values = _from_moments(_moments(actual, predicted, actual).sum(0), span)
    del values["skill"]
    return {name: dict(zip(("mean", *columns), map(_number, of), strict=True)) for name, of in values.items()}


def score_with_intervals(
    actual: np.ndarray,
    predicted: np.ndarray,
    baseline: np.ndarray,
    videos: np.ndarray,
    columns: Sequence[str],
    span: float,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for each score and for the mean and each of `columns`: score, target, value, low, high; NaN where not
    defined.

    The scores of `scores`, and skill: 1 - MSE(predicted) / MSE(baseline); arrays (N, K), videos (N,). low and high are the
    ends of the 95 % percentile bootstrap interval over videos (Efron and Tibshirani 1993, chapter 13): the clips of a video
    are not independent, so videos are drawn, with replacement, and all their clips with them. For Spearman's correlation
    clips keep the ranks that they have among all. Below MIN_VIDEOS that know a column (for the mean: every column) there is
    no interval: it would be far too narrow.
    """
    sums = sum_by_video(_moments(actual, predicted, baseline), videos)
    return estimate_intervals(sums, lambda of: _from_moments(of, span), columns, bootstrap)


def score_groups(
    actual: np.ndarray,
    predicted: np.ndarray,
    baseline: np.ndarray,
    videos: np.ndarray,
    labels: np.ndarray,
    group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` for each group of clips, for its difference to the others, and for the gap.

    labels (N,) are the groups' names, empty for clips in no group. Further columns: what, group, clips,
    videos.
    what is "value"; "difference", the group's value less that of all other groups' clips together, videos drawn for both at
    once; or "gap", the highest group's value less the lowest's of those with MIN_VIDEOS or more that know the column,
    `group` naming the two: it has no interval, for the two are chosen by the same data.
    """
    columns, span = group.columns, group.span
    names = [name for name in np.unique(labels) if name]
    # of each group its clips, and the others'
    sets = [(labels == name, (labels != name) & (labels != "")) for name in names]
    moments = np.zeros((len(actual), len(names), 2, len(columns), _MOMENTS))
    for index, pair in enumerate(sets):
        for side, members in enumerate(pair):
            if members.any():
                moments[members, index, side] = _moments(actual[members], predicted[members], baseline[members])
    sums = sum_by_video(moments, videos)
    values = _from_moments(sums.sum(0), span)  # {score: (G, 2, K + 1)}
    resampled = _from_moments(resample(sums, bootstrap.resamples, bootstrap.rng()), span)  # (resamples, G, 2, K + 1)
    own, drawn = ({key: of[..., 0, :] for key, of in one.items()} for one in (values, resampled))
    apart, drawn_apart = (
        {key: of[..., 0, :] - of[..., 1, :] for key, of in one.items()} for one in (values, resampled)
    )
    knowing = _knowing(sums)  # (G, 2, K + 1)
    tables = []

    def add(what: str, name: str | list[str], members: np.ndarray, rows: pd.DataFrame) -> None:
        about = {"what": what, "group": name, "clips": members.sum(), "videos": len(set(videos[members]))}
        tables.append(rows.assign(**about)[[*about, *rows.columns]])

    def at(index: int, scores_: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {key: values[..., index, :] for key, values in scores_.items()}

    for index, (name, (members, others)) in enumerate(zip(names, sets, strict=True)):
        add("value", name, members, _rows(at(index, own), at(index, drawn), knowing[index, 0], columns))
        if others.any():
            rows = _rows(at(index, apart), at(index, drawn_apart), knowing[index].min(0), columns)
            add("difference", name, members, rows)
    large = knowing[:, 0] >= MIN_VIDEOS  # (G, K + 1)
    compared = large.sum(0) > 1
    if compared.any():
        highest, lowest = (
            {key: np.where(large, values, sign * np.inf) for key, values in own.items()} for sign in (-1, 1)
        )
        pairs = [
            f"{names[high]} minus {names[low]}" if known else ""
            for key in own
            for high, low, known in zip(highest[key].argmax(0), lowest[key].argmin(0), compared, strict=True)
        ]
        gap = {key: np.where(compared, highest[key].max(0) - lowest[key].min(0), np.nan) for key in own}
        none = np.zeros(len(compared))  # no interval
        add("gap", pairs, labels != "", _rows(gap, {key: value[None] for key, value in gap.items()}, none, columns))
    return pd.concat(tables, ignore_index=True)


def estimate_intervals(
    sums: np.ndarray,
    scores_of: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` for scores that are made of sums over clips.

    sums (V, K, M) of `sum_by_video`, the first of the M counts the clips that know the column; scores_of: from such sums
    (..., K, M) over all videos to {score: (..., K + 1)}, the mean over columns first.
    """
    resampled = scores_of(resample(sums, bootstrap.resamples, bootstrap.rng()))
    return _rows(scores_of(sums.sum(0)), resampled, _knowing(sums), columns)


def prepend_mean(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{score: (..., K)} to {score: (..., K + 1)}: the mean over columns, and each."""
    return {name: np.concatenate([of.mean(-1, keepdims=True), of], -1) for name, of in values.items()}


def _rows(
    values: Mapping[str, np.ndarray], resampled: Mapping[str, np.ndarray], videos: np.ndarray, columns: Sequence[str]
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` for values {score: (K + 1,)} and their resamples {score: (R, K + 1)}.

    There is no interval where the number of `videos` (K + 1,) is below MIN_VIDEOS."""
    rows = []
    for name, value in values.items():
        defined = np.isfinite(value)
        low, high = np.nanpercentile(np.where(defined, resampled[name], 0), [2.5, 97.5], axis=0)
        ends = np.where(defined & (videos >= MIN_VIDEOS), [low, high], np.nan)
        cells = {"score": name, "target": ["mean", *columns], "value": np.where(defined, value, np.nan), "low": ends[0]}
        rows.append(pd.DataFrame(cells | {"high": ends[1]}))
    return pd.concat(rows, ignore_index=True)


def _knowing(sums: np.ndarray) -> np.ndarray:
    """Sums (V, ..., K, _MOMENTS) over each video's clips to the number of videos that know a column: (..., K + 1), first the
    least over columns."""
    counts = (sums[..., 0] > 0).sum(0)
    return np.concatenate([counts.min(-1, keepdims=True), counts], -1)


def sum_by_video(values: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """Return the sums (V, ...) of values (N, ...) over the clips of each of the V videos in `videos` (N,)."""
    names, of_video = np.unique(videos, return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, of_video, values)
    return sums


def resample(sums: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the totals (resamples, ...) of sums (V, ...) by video: each resample draws V videos with replacement."""
    count = len(sums)
    draws = rng.multinomial(count, np.full(count, 1 / count), resamples).astype(float)
    return np.tensordot(draws, sums, 1)


def _moments(actual: np.ndarray, predicted: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Return (N, K, _MOMENTS), what every score is made from once it is summed over clips; all 0 where `actual` is NaN."""
    known = ~np.isnan(actual)
    count = np.maximum(known.sum(0), 1)
    a, p, error = actual, np.where(known, predicted, np.nan), predicted - actual
    rank_a, rank_p = (stats.rankdata(values, axis=0, nan_policy="omit") / count - 0.5 for values in (a, p))
    centre = np.where(known, a, 0).sum(0) / count  # differences of large numbers lose digits
    a, p = a - centre, p - centre
    parts = [np.ones_like(a), np.abs(error), error**2, a, p, a * a, p * p, a * p, (baseline - actual) ** 2]
    parts += [rank_a, rank_p, rank_a**2, rank_p**2, rank_a * rank_p]
    return np.where(known[..., None], np.stack(parts, -1), 0)


def _from_moments(sums: np.ndarray, span: float) -> dict[str, np.ndarray]:
    """(..., K, _MOMENTS) to {score: (..., K + 1)}: the mean over columns, and each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / sums[..., :1]
        mae, mse, a, p, aa, pp, ap, base = (mean[..., index] for index in range(1, 9))
        variance, spread, covariance = _spread(aa, a, span), _spread(pp, p, span), ap - a * p
        values = {
            "accuracy": 1 - mae / span,
            "mae": mae,
            "mse": mse,
            "rmse": np.sqrt(mse),
            "r2": 1 - mse / variance,
            "ccc": 2 * covariance / (variance + np.nan_to_num(spread) + (a - p) ** 2),
            "pearson": covariance / np.sqrt(variance * spread),
            "spearman": _correlation(*(mean[..., index] for index in range(9, 14))),
            "skill": 1 - mse / base,
            "bias": p - a,
            "std_ratio": np.sqrt(np.nan_to_num(spread) / variance),
            "regression_to_mean": 1 - covariance / variance,
            "calibration_slope": covariance / spread,
        }
    return prepend_mean(values)


def _correlation(x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
    return (xy - x * y) / np.sqrt(_spread(xx, x, 1) * _spread(yy, y, 1))


def _spread(square: np.ndarray, mean: np.ndarray, span: float) -> np.ndarray:
    """The variance, NaN where it is 0 but for rounding."""
    variance = square - mean**2
    return np.where(variance > 1e-12 * span**2, variance, np.nan)


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
