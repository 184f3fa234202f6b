"""Compare predictors on the same clips, pair by pair, with the videos, not the clips, as what varies independently."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.scoring.scores import COLUMNS, by_video, resample, scores

_LEVEL = 1.959964  # of the standard normal, two-sided 5 %
_POWER = 0.841621  # of the standard normal, 80 %


def absolute_errors(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return (N, 6): the mean over traits of |predicted - actual|, and that of each trait; arrays (N, 5)."""
    errors = np.abs(predicted - actual)
    return np.column_stack([errors.mean(1), errors])


def paired(
    errors: np.ndarray, baseline: np.ndarray, videos: np.ndarray, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Return, each (6,), how much more accurate than a baseline a predictor is, and how sure that is.

    errors, baseline: (N, 6) of `absolute_errors`; videos (N,). `difference` is of the accuracy 1 - MAE. `low` and `high`
    are its 95 % percentile bootstrap interval over videos (Efron and Tibshirani 1993, chapter 13). `p` is a paired
    permutation test's: under the null hypothesis a video's two sets of errors can be exchanged (Good 2005, Permutation,
    parametric and bootstrap tests of hypotheses). `smallest` is the difference that such a test set shows with a power of
    80 % at a level of 5 %, not corrected. All of this is about these predictions: another training might predict otherwise.
    """
    gain = baseline - errors
    sums = by_video(np.column_stack([gain, np.ones(len(gain))]), videos)  # the last column counts clips
    rng = np.random.default_rng(seed)
    resampled = resample(sums, resamples, rng)
    resampled = resampled[:, :-1] / resampled[:, -1:]
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    signs = rng.choice([-1.0, 1.0], (resamples, len(sums)))
    total = sums[:, :-1].sum(0)
    extreme = np.abs(signs @ sums[:, :-1]) >= np.abs(total) - 1e-12
    p = (1 + extreme.sum(0)) / (1 + resamples)
    return {
        "difference": total / len(gain),
        "low": low,
        "high": high,
        "p": p,
        "smallest": (_LEVEL + _POWER) * resampled.std(0, ddof=1),
    }


def holm(p: np.ndarray) -> np.ndarray:
    """Return Holm's (1979) adjusted p-values."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def table(
    predictions: Mapping[str, Sequence[np.ndarray]],
    actual: np.ndarray,
    videos: np.ndarray,
    baseline: str,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return a row for each predictor and column of COLUMNS: accuracy and r2 (means over seeds), spread and r2_spread
    (standard deviations over seeds, NaN for one), and, but for the baseline, what `paired` says of the errors averaged over
    seeds. p_holm is p corrected (Holm 1979) over all predictors, for the mean; over all predictors and traits, for a trait.

    predictions: name to arrays (N, 5), one a seed.
    """
    errors = {
        name: np.stack([absolute_errors(actual, one) for one in of_seed]) for name, of_seed in predictions.items()
    }
    rows: list[dict[str, Any]] = []
    for name, of_seed in errors.items():
        accuracy = 1 - of_seed.mean(1)  # (seeds, 6)
        r2 = np.array([list(scores(actual, one)["r2"].values()) for one in predictions[name]], float)
        against = {} if name == baseline else paired(of_seed.mean(0), errors[baseline].mean(0), videos, resamples, seed)
        for index, column in enumerate(COLUMNS):
            row = {"predictor": name, "trait": column, "seeds": len(of_seed)}
            row |= {"accuracy": accuracy[:, index].mean(), "spread": _over_seeds(accuracy[:, index])}
            row |= {"r2": r2[:, index].mean(), "r2_spread": _over_seeds(r2[:, index])}
            rows.append(row | {key: values[index] for key, values in against.items()})
    table = pd.DataFrame(rows)
    compared = table["predictor"] != baseline
    for family in (compared & (table["trait"] == "mean"), compared & (table["trait"] != "mean")):
        if family.any():
            table.loc[family, "p_holm"] = holm(table.loc[family, "p"].to_numpy())
    return table


def _over_seeds(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
