"""Compare predictors on the same clips, pair by pair, with the videos, not the clips, as what varies independently."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.scoring.scores import Bootstrap, resample, score_columns, sum_by_video

_LEVEL = 1.959964  # of the standard normal, two-sided 5 %
_POWER = 0.841621  # of the standard normal, 80 %


def compare_errors(
    errors: np.ndarray, baseline: np.ndarray, videos: np.ndarray, bootstrap: Bootstrap
) -> dict[str, np.ndarray]:
    """Return, each (K + 1,), how much smaller than a baseline's a predictor's errors are, and how sure that is: first of the
    mean over the K columns, then of each.

    errors, baseline: absolute errors (N, K), NaN where the target is unknown; videos (N,). `low` and `high` are the ends of
    the 95 % percentile bootstrap interval of `difference` over videos (Efron and Tibshirani 1993, chapter 13). `p` is a
    paired permutation test's: under the null hypothesis a video's two sets of errors can be exchanged (Good 2005,
    Permutation, parametric and bootstrap tests of hypotheses). `smallest` is the difference that such a test set shows with
    a power of 80 % at a level of 5 %, not corrected. All of this is about these predictions: another training might predict
    otherwise.
    """
    gain = baseline - errors
    known = ~np.isnan(gain)
    sums = sum_by_video(np.stack([np.where(known, gain, 0), known], -1), videos)  # (V, K, 2)
    difference = _mean_first(sums.sum(0))
    defined = np.isfinite(difference)
    resamples, rng = bootstrap.resamples, bootstrap.rng()
    resampled = np.where(defined, _mean_first(resample(sums, resamples, rng)), 0)
    signs = rng.choice([-1.0, 1.0], (resamples, len(sums)))
    counts = np.broadcast_to(sums[..., 1].sum(0), (resamples, gain.shape[1]))
    exchanged = _mean_first(np.stack([signs @ sums[..., 0], counts], -1))
    low, high = np.nanpercentile(resampled, [2.5, 97.5], axis=0)
    extreme = np.abs(exchanged) >= np.abs(difference) - 1e-12
    found = {
        "difference": difference,
        "low": low,
        "high": high,
        "p": (1 + extreme.sum(0)) / (1 + resamples),
        "smallest": (_LEVEL + _POWER) * np.nanstd(resampled, 0, ddof=1),
    }
    return {name: np.where(defined, values, np.nan) for name, values in found.items()}


def adjust_p(p: np.ndarray) -> np.ndarray:
    """Return Holm's (1979) adjusted p-values."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def compare_predictors(
    predictions: Mapping[str, Sequence[np.ndarray]],
    actual: np.ndarray,
    videos: np.ndarray,
    baseline: str,
    group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for each predictor and target, "mean" and each column: accuracy (1 - MAE / span) and r2 (means over
    seeds), spread and r2_spread (standard deviations over seeds, NaN for one), and, except for the baseline, the
    results of `compare_errors` for the errors averaged over seeds. p_holm is p corrected (Holm 1979) over all predictors,
    for the mean; over all predictors and columns, for a column.

    predictions: name to arrays (N, K), one a seed; actual (N, K) is NaN where it is unknown.
    """
    columns, span, known = group.columns, group.span, np.isfinite(actual).sum(0)
    errors = {name: np.stack([np.abs(one - actual) for one in of_seed]) / span for name, of_seed in predictions.items()}
    rows: list[dict[str, Any]] = []
    for name, of_seed in errors.items():
        accuracy = 1 - np.stack([_mean_first(np.stack([np.nansum(one, 0), known], -1)) for one in of_seed])
        r2 = np.array(
            [list(score_columns(actual, one, columns, span)["r2"].values()) for one in predictions[name]], float
        )
        against = (
            {} if name == baseline else compare_errors(of_seed.mean(0), errors[baseline].mean(0), videos, bootstrap)
        )
        for index, target in enumerate(("mean", *columns)):
            row = {"predictor": name, "target": target, "seeds": len(of_seed)}
            row |= {"accuracy": accuracy[:, index].mean(), "spread": _over_seeds(accuracy[:, index])}
            row |= {"r2": r2[:, index].mean(), "r2_spread": _over_seeds(r2[:, index])}
            rows.append(row | {key: values[index] for key, values in against.items()})
    table = pd.DataFrame(rows)
    compared = table["p"].notna()  # the baseline has none, nor has a column that no clip knows
    for family in (compared & (table["target"] == "mean"), compared & (table["target"] != "mean")):
        if family.any():
            table.loc[family, "p_holm"] = adjust_p(table.loc[family, "p"].to_numpy())
    return table


def _mean_first(sums: np.ndarray) -> np.ndarray:
    """Sums of gains and counts (..., K, 2) to means of gains (..., K + 1), first the mean over columns."""
    with np.errstate(invalid="ignore"):
        of_columns = sums[..., 0] / sums[..., 1]
    return np.concatenate([of_columns.mean(-1, keepdims=True), of_columns], -1)


def _over_seeds(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
