"""The fraction of labels inside the prediction intervals of single clips."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.scoring.bootstrap import Bootstrap, estimate_intervals, sum_by_video
from lib.scoring.scores import prepend_mean


def score_coverage(
    actual: np.ndarray,
    predicted: np.ndarray,
    widths: np.ndarray,
    videos: np.ndarray,
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for the mean and each of `columns`: score ("coverage"), target, value, low, high.

    value: the fraction of labels in the prediction intervals of half widths (K,) or (N, K); NaN if an interval is infinite.
    low, high: as in `lib.scoring.bootstrap.score_with_intervals`. Arrays are (N, K), actual NaN where unknown, videos (N,).
    """
    labelled = np.isfinite(actual)
    inside = np.where(np.isfinite(widths), np.abs(predicted - actual) <= widths, np.nan)
    sums = sum_by_video(np.where(labelled[..., None], np.stack([labelled, inside], -1), 0.0), videos)

    def fractions(sums: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return prepend_mean({"coverage": sums[..., 1] / sums[..., 0]})

    return estimate_intervals(sums, fractions, columns, bootstrap)
