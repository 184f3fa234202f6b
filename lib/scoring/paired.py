"""Compare predictors on the same clips, in pairs; videos, not clips, are the independent units."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import Bootstrap, resample, split_resamples, sum_by_video
from lib.scoring.scores import score_columns

_LEVEL = 1.959964  # of the standard normal, two-sided 5 %
_POWER = 0.841621  # of the standard normal, 80 %
DETECTABLE = _LEVEL + _POWER
"""A test at 5 % detects a difference of this number of standard errors with a power of 80 % (Cohen 1988, chapter 2)."""


def compare_errors(
    errors: np.ndarray,
    baseline: np.ndarray,
    videos: np.ndarray,
    bootstrap: Bootstrap,
    weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return how much smaller a predictor's errors are than a baseline's: arrays (K + 1,), first the mean over K columns.

    errors, baseline: absolute errors (N, K), NaN where the target is unknown; videos (N,). weights (N, K): of the labels,
    None for equal weights. `difference`: baseline minus
    errors. `low` and `high`: ends of its 95 % percentile bootstrap interval over videos (Efron and Tibshirani 1993, chapter
    13). `p`: of a paired permutation test, in which a video's two sets of errors can be exchanged under the null hypothesis
    (Good 2005, Permutation, parametric and bootstrap tests of hypotheses). `p_floor`: the lowest possible p, where no
    permutation is as extreme as the data. `smallest`: the difference that such a test set shows with a power of 80 % at a
    level of 5 %, without correction. All results are about these predictions: the same model
    may predict differently after another training.
    """
    gain = baseline - errors
    labelled = ~np.isnan(gain)
    counted = labelled if weights is None else np.where(labelled, weights, 0)
    sums = sum_by_video(np.stack([np.where(labelled, gain, 0) * counted, counted], -1), videos)  # (V, K, 2)
    difference = _mean_first(sums.sum(0))
    defined = np.isfinite(difference)
    resamples, rng = bootstrap.resamples, bootstrap.rng()
    resampled = np.where(defined, _mean_first(resample(sums, resamples, rng)), 0)
    blocks = split_resamples(resamples, len(sums))
    signed = np.concatenate([rng.choice([-1.0, 1.0], (rows, len(sums))) @ sums[..., 0] for rows in blocks])
    counts = np.broadcast_to(sums[..., 1].sum(0), (resamples, gain.shape[1]))
    exchanged = _mean_first(np.stack([signed, counts], -1))
    low, high = np.nanpercentile(resampled, [2.5, 97.5], axis=0)
    extreme = np.abs(exchanged) >= np.abs(difference) - 1e-12
    results = {
        "difference": difference,
        "low": low,
        "high": high,
        "p": (1 + extreme.sum(0)) / (1 + resamples),
        "p_floor": np.full(len(difference), 1 / (1 + resamples)),
        "smallest": DETECTABLE * np.nanstd(resampled, 0, ddof=1),
    }
    return {name: np.where(defined, values, np.nan) for name, values in results.items()}


def adjust_p(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for multiple tests (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def find_twins(predictions: Mapping[str, Sequence[np.ndarray]]) -> dict[str, str]:
    """Return for each predictor with the same predictions as an earlier predictor the name of the first such predictor.

    Example: video_lookup -> mean_predictor, if no clip is of a video with training clips.
    """
    twins: dict[str, str] = {}
    for name, arrays in predictions.items():
        for other, others in predictions.items():
            if other == name:
                break
            equal = len(arrays) == len(others) and other not in twins
            if equal and all(np.array_equal(*pair, equal_nan=True) for pair in zip(arrays, others, strict=True)):
                twins[name] = other
                break
    return twins


def adjust_table(table: pd.DataFrame, twins: Mapping[str, str]) -> pd.Series:
    """Return the adjusted p (`adjust_p`) of each row of a table with predictor, target and p, NaN where p is.

    One family of tests is the mean over targets, another all single targets. A predictor in `twins` is not tested again: it
    has the p of the predictor whose predictions it equals.
    """
    adjusted = pd.Series(np.nan, table.index)
    once = table["p"].notna() & ~table["predictor"].isin(twins)
    for family in (table["target"] == "mean", table["target"] != "mean"):
        tested = family & once
        adjusted[tested] = adjust_p(table.loc[tested, "p"].to_numpy())
    for name, twin in twins.items():
        rows, same = table["predictor"] == name, table["predictor"] == twin
        adjusted[rows] = table.loc[rows, "target"].map(adjusted[same].set_axis(table.loc[same, "target"])).to_numpy()
    return adjusted


def compare_predictors(
    predictions: Mapping[str, Sequence[np.ndarray]],
    actual: np.ndarray,
    videos: np.ndarray,
    baseline: str,
    target_group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for each predictor and target, "mean" and each column, with scores and the comparison to the baseline.

    accuracy (1 - MAE / span), r2 and ccc: means over seeds. seed_std, r2_seed_std and ccc_seed_std: standard deviations over
    seeds, NaN for one seed. All predictors except the baseline have the results of `compare_errors` for the errors averaged
    over seeds. p_holm is p corrected (`adjust_table`) over all predictors, for the mean; over all predictors and columns,
    for a column. Predictors with equal predictions are tested once.

    predictions: arrays (N, K) by name, one for each seed; actual (N, K) is NaN where unknown.
    """
    columns, span, counts = target_group.columns, target_group.span, np.isfinite(actual).sum(0)
    errors = {
        name: np.stack([np.abs(array - actual) for array in arrays]) / span for name, arrays in predictions.items()
    }
    rows: list[dict[str, Any]] = []
    for name, seed_errors in errors.items():
        accuracy = 1 - np.stack([_mean_first(np.stack([np.nansum(error, 0), counts], -1)) for error in seed_errors])
        seed_scores = [score_columns(actual, array, columns, span) for array in predictions[name]]
        r2, ccc = (np.array([list(scores[key].values()) for scores in seed_scores], float) for key in ("r2", "ccc"))
        compared: dict[str, np.ndarray] = {}
        if name != baseline:
            compared = compare_errors(seed_errors.mean(0), errors[baseline].mean(0), videos, bootstrap)
        for index, target in enumerate(("mean", *columns)):
            row = {"predictor": name, "target": target, "seeds": len(seed_errors)}
            row |= {"accuracy": accuracy[:, index].mean(), "seed_std": _deviation(accuracy[:, index])}
            row |= {"r2": r2[:, index].mean(), "r2_seed_std": _deviation(r2[:, index])}
            row |= {"ccc": ccc[:, index].mean(), "ccc_seed_std": _deviation(ccc[:, index])}
            rows.append(row | {key: values[index] for key, values in compared.items()})
    table = pd.DataFrame(rows)
    others = {name: arrays for name, arrays in predictions.items() if name != baseline}
    return table.assign(p_holm=adjust_table(table, find_twins(others)))


def _mean_first(sums: np.ndarray) -> np.ndarray:
    """Return means (..., K + 1), first that over columns, from sums and counts (..., K, 2)."""
    with np.errstate(invalid="ignore"):
        means = sums[..., 0] / sums[..., 1]
    return np.concatenate([means.mean(-1, keepdims=True), means], -1)


def _deviation(values: np.ndarray) -> float:
    """Return the standard deviation over seeds, NaN for a single seed."""
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
