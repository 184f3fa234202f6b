"""Scores of predictions, for each target and as the mean over targets, with bootstrap intervals over videos."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

MIN_VIDEOS = 10
"""A score gets an interval if at least this number of videos have labels; with fewer, the interval would be too narrow."""

MOMENTS = 14
"""Number of sums over clips from which every score is computed."""

_BLOCK = 1 << 25
"""Number of random draws that are in memory at a time: 256 MB."""
_KEPT = 1 << 29
"""Largest number of draws that stay in memory for the next table, one byte each: 512 MB."""
_draws: dict[tuple[int, int, str], tuple[list[np.ndarray], Any]] = {}
"""The last draws by number of videos, number of resamples and state of the generator, and its state after them."""


class Bootstrap(NamedTuple):
    """The random draws of all intervals and permutation tests: number of resamples, and seed."""

    resamples: int
    seed: int

    def rng(self) -> np.random.Generator:
        """Return a new generator: every table uses the same draws."""
        return np.random.default_rng(self.seed)


def score_columns(
    actual: np.ndarray, predicted: np.ndarray, columns: Sequence[str], span: float
) -> dict[str, dict[str, float | None]]:
    """Return {score: {"mean": ..., column: ...}} for arrays (N, K) of K columns; an undefined score is None.

    `actual` is NaN where unknown. Each column is scored on the clips with a label; "mean" is the mean over columns.
    accuracy is 1 - MAE / span for targets with a range of width `span` (Ponce-López et al. 2016, ChaLearn LAP 2016,
    equation 1, where span is 1). All other scores are in the targets' units. R² is relative to the mean of `actual`. CCC is
    Lin's (1989) with population moments. CCC and R² are undefined for constant targets, the correlations for constant
    values. bias is the mean of predicted - actual. std_ratio is the predictions' standard deviation divided by the targets'.
    regression_to_mean is 1 - the slope of the regression of predictions on targets: 0 if extreme targets get predictions as
    extreme, 1 if every prediction is the mean. calibration_slope is the slope of the regression of targets on predictions: 1
    for a calibrated predictor, whose regression to the mean is 1 - R².
    """
    values = scores_from_moments(compute_moments(actual, predicted, actual).sum(0), span)
    del values["skill"]
    return {name: dict(zip(("mean", *columns), map(_number, row), strict=True)) for name, row in values.items()}


def score_with_intervals(
    actual: np.ndarray,
    predicted: np.ndarray,
    baseline: np.ndarray,
    videos: np.ndarray,
    columns: Sequence[str],
    span: float,
    bootstrap: Bootstrap,
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return a row for each score and for the mean and each of `columns`: score, target, value, low, high; NaN if undefined.

    The scores are those of `score_columns`, and skill: 1 - MSE(predicted) / MSE(baseline). Arrays are (N, K), videos (N,).
    low and high are the ends of the 95 % percentile bootstrap interval over videos (Efron and Tibshirani 1993, chapter 13).
    The clips of a video are not independent, so complete videos are drawn with replacement. For Spearman's correlation,
    clips keep their ranks among all clips. A column gets an interval if at least MIN_VIDEOS videos have a label for it; the
    mean, if every column does. weights (N, K): of the labels, None for equal weights (`compute_moments`).
    """
    sums = sum_by_video(compute_moments(actual, predicted, baseline, weights), videos)
    return estimate_intervals(sums, lambda total: scores_from_moments(total, span), columns, bootstrap)


def estimate_intervals(
    sums: np.ndarray,
    scores_from_sums: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` for scores that are computed from sums over clips.

    sums (V, K, M) are from `sum_by_video`; the first of the M counts the clips with a label. scores_from_sums: converts sums
    (..., K, M) over all videos to {score: (..., K + 1)}, the mean over columns first.
    """
    resampled = scores_from_sums(resample(sums, bootstrap.resamples, bootstrap.rng()))
    return interval_rows(scores_from_sums(sums.sum(0)), resampled, count_videos(sums), columns)


def interval_rows(
    values: Mapping[str, np.ndarray], resampled: Mapping[str, np.ndarray], videos: np.ndarray, columns: Sequence[str]
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` from values {score: (K + 1,)} and their resamples {score: (R, K + 1)}.

    low and high are NaN where the number of `videos` (K + 1,) is below MIN_VIDEOS.
    """
    rows = []
    for name, value in values.items():
        defined = np.isfinite(value)
        low, high = np.nanpercentile(np.where(defined, resampled[name], 0), [2.5, 97.5], axis=0)
        ends = np.where(defined & (videos >= MIN_VIDEOS), [low, high], np.nan)
        cells = {"score": name, "target": ["mean", *columns], "value": np.where(defined, value, np.nan), "low": ends[0]}
        rows.append(pd.DataFrame(cells | {"high": ends[1]}))
    return pd.concat(rows, ignore_index=True)


def prepend_mean(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return {score: (..., K + 1)} for {score: (..., K)}: the mean over columns, then each column."""
    return {name: np.concatenate([row.mean(-1, keepdims=True), row], -1) for name, row in values.items()}


def count_videos(sums: np.ndarray) -> np.ndarray:
    """Return the number of videos with a label (..., K + 1), first the lowest number of any column, from sums (V, ..., K, M)
    whose first entry counts a video's clips with a label."""
    counts = (sums[..., 0] > 0).sum(0)
    return np.concatenate([counts.min(-1, keepdims=True), counts], -1)


def sum_by_video(values: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """Return the sums (V, ...) of values (N, ...) over the clips of each of the V videos in `videos` (N,)."""
    names, video_index = np.unique(videos, return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, video_index, values)
    return sums


def resample(sums: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the totals (resamples, ...) of sums (V, ...) by video: each resample draws V videos with replacement."""
    drawn = _draw_videos(len(sums), resamples, rng)
    return np.concatenate([np.tensordot(block.astype(float), sums, 1) for block in drawn])


def _draw_videos(videos: int, resamples: int, rng: np.random.Generator) -> Iterable[np.ndarray]:
    """Return blocks (rows, V) with the number of times that each resample draws each video.

    Drawing takes most of the time of an interval, and the tables use the same draws, so the last draws stay in memory.
    """
    key = videos, resamples, str(rng.bit_generator.state)
    if videos * resamples > _KEPT:
        return _draw_blocks(videos, resamples, rng)
    if key not in _draws:
        _draws.clear()
        _draws[key] = [*_draw_blocks(videos, resamples, rng)], rng.bit_generator.state
    blocks, rng.bit_generator.state = _draws[key]
    return blocks


def _draw_blocks(videos: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for rows in split_resamples(resamples, videos):
        drawn = rng.multinomial(videos, np.full(videos, 1 / videos), rows)
        yield drawn.astype(np.min_scalar_type(drawn.max()))


def split_resamples(resamples: int, videos: int) -> list[int]:
    """Return numbers of resamples with the sum `resamples`, whose draws of `videos` each need up to 256 MB.

    Code that draws one block after another draws the same numbers as code that draws all at once.
    """
    rows = max(1, _BLOCK // max(videos, 1))
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]


def compute_moments(
    actual: np.ndarray, predicted: np.ndarray, baseline: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return each clip's terms (N, K, MOMENTS) of the sums that scores are computed from; 0 where `actual` is NaN.

    weights (N, K): positive; each clip counts as that number of clips. Ranks for Spearman's correlation are not weighted.
    """
    from scipy.stats import rankdata  # it takes half a second to load

    labelled = ~np.isnan(actual)
    count = np.maximum(labelled.sum(0), 1)
    a, p, error = actual, np.where(labelled, predicted, np.nan), predicted - actual
    rank_a, rank_p = (rankdata(values, axis=0, nan_policy="omit") / count - 0.5 for values in (a, p))
    centre = (
        np.where(labelled, a, 0).sum(0) / count
    )  # subtracted first, because differences of large numbers lose digits
    a, p = a - centre, p - centre
    parts = [np.ones_like(a), np.abs(error), error**2, a, p, a * a, p * p, a * p, (baseline - actual) ** 2]
    parts += [rank_a, rank_p, rank_a**2, rank_p**2, rank_a * rank_p]
    terms = np.stack(parts, -1) * (1 if weights is None else weights[..., None])
    return np.where(labelled[..., None], terms, 0)


def scores_from_moments(sums: np.ndarray, span: float) -> dict[str, np.ndarray]:
    """Return {score: (..., K + 1)}, the mean over columns first, from sums (..., K, MOMENTS) over clips."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / sums[..., :1]
        mae, mse, a, p, aa, pp, ap, base = (mean[..., index] for index in range(1, 9))
        variance, spread, covariance = _variance(aa, a, span), _variance(pp, p, span), ap - a * p
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
    return (xy - x * y) / np.sqrt(_variance(xx, x, 1) * _variance(yy, y, 1))


def _variance(square: np.ndarray, mean: np.ndarray, span: float) -> np.ndarray:
    """Return the variance; NaN if it is 0 within rounding errors."""
    variance = square - mean**2
    return np.where(variance > 1e-12 * span**2, variance, np.nan)


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
