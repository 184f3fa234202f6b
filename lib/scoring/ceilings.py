"""How far the reliability of labels lets any predictor go: the ceilings of R², Pearson's r and CCC.

Labels, the raters' consensus and the reliability are those of lib/scoring/reliability.py.

r: the correlation with a label is that with the consensus times the root of the reliability (attenuation, Spearman 1904), so
it is at most this root. R²: the consensus itself has the lowest mean squared error, the variance of the errors, so R² is at
most the reliability. CCC: it is at most r, because it is r times a factor of at most 1 (Lin 1989), and predictions with the
variance and the mean of the labels that are a linear function of the consensus reach the root. The consensus itself reaches
2 ρ / (1 + ρ) for a reliability ρ. These are expectations: in a sample, a score can lie above its ceiling.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.scoring.scores import prepend_mean

CEILING = "ceiling"
"""The ceilings' name in the column `predictor` of data/scores.csv."""
SCORES = ("r2", "pearson", "ccc")
"""Scores that have a ceiling."""


def bound_scores(reliability: np.ndarray) -> dict[str, np.ndarray]:
    """Return the ceilings (..., K + 1) by score, the mean over targets first; NaN for an unknown `reliability` (..., K)."""
    root = np.sqrt(reliability)
    return prepend_mean({"r2": reliability, "pearson": root, "ccc": root})


def tabulate(ceilings: Mapping[str, np.ndarray], columns: Sequence[str]) -> pd.DataFrame:
    """Return a row for each known ceiling: score, target, value, low and high, both NaN, like those of a predictor."""
    cells = [
        {"score": score, "target": target, "value": value, "low": np.nan, "high": np.nan}
        for score, values in ceilings.items()
        for target, value in zip(("mean", *columns), values, strict=True)
        if np.isfinite(value)
    ]
    return pd.DataFrame(cells, columns=["score", "target", "value", "low", "high"])
