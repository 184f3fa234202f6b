"""Intervals for predictions of single clips: split conformal prediction from the errors on held-out clips."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.scoring.scores import Bootstrap, estimate_intervals, prepend_mean, sum_by_video

LEVEL = 0.9
"""Of clips like the held-out ones, the part whose label is to lie in the interval."""


def compute_half_widths(actual: np.ndarray, predicted: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Return of each column half the interval's width (K,), infinite where too few clips know it; arrays (N, K).

    It is the ceil((n + 1) LEVEL)-th smallest absolute error of the n clips that know the column (Lei et al. 2018,
    Distribution-free predictive inference for regression, algorithm 2). The promise holds for clips that are exchangeable
    with these and a model that did not see them; a model that was chosen by them comes out a little too narrow.

    scale (N, K): the predicted standard deviation of each label. If given, each error is divided by it, and the half widths
    are multiples of the scale, so that intervals are wide where the model predicts much noise (section 5.2 there).
    """
    widths = np.full(actual.shape[1], np.inf)
    for column, errors in enumerate((np.abs(predicted - actual) / (1 if scale is None else scale)).T):
        known = np.sort(errors[np.isfinite(errors)])
        rank = int(np.ceil((len(known) + 1) * LEVEL))
        if rank <= len(known):
            widths[column] = known[rank - 1]
    return widths


def score_coverage(
    actual: np.ndarray,
    predicted: np.ndarray,
    widths: np.ndarray,
    videos: np.ndarray,
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for the mean and each of `columns`: score "coverage", target, value, low, high: which part of the clips'
    labels lie in the intervals of half widths (K,) or (N, K); arrays (N, K), actual NaN where unknown, videos (N,). Not
    defined where there is no interval. low and high as `lib.scoring.scores.score_with_intervals` has them."""
    known = np.isfinite(actual)
    inside = np.where(np.isfinite(widths), np.abs(predicted - actual) <= widths, np.nan)
    sums = sum_by_video(np.where(known[..., None], np.stack([known, inside], -1), 0.0), videos)

    def parts(of: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return prepend_mean({"coverage": of[..., 1] / of[..., 0]})

    return estimate_intervals(sums, parts, columns, bootstrap)
