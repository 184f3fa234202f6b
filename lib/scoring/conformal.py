"""Prediction intervals for single clips, by split conformal prediction from the errors on held-out clips."""

import numpy as np

from lib.core.targets import INTERVAL_LEVEL


def compute_half_widths(
    actual: np.ndarray,
    predicted: np.ndarray,
    videos: np.ndarray,
    scale: np.ndarray | None = None,
    level: float = INTERVAL_LEVEL,
) -> np.ndarray:
    """Return half the interval's width for each column (K,), infinite if too few videos have a label; arrays are (N, K).

    level: expected fraction of clips of new videos, similar to the held-out videos, whose label is in the interval. Clips of
    one video (videos, (N,)) depend on each other, so each of the V videos with a label counts equally: its clips share a
    weight of 1 / (V + 1), and the half width is the smallest absolute error up to which the weights sum to `level`
    (hierarchical conformal prediction, Lee, Barber and Willett 2023, Distribution-free inference with hierarchical data,
    section 3). With one clip per video this is the ceil((n + 1) level)-th smallest error of n clips (Lei et al. 2018,
    Distribution-free predictive inference for regression, algorithm 2). The coverage is guaranteed for a clip of a new video
    that is exchangeable with these videos, and for a model that did not use them. Intervals of a model that was selected on
    these clips are slightly too narrow.

    scale (N, K): the predicted standard deviation of each label. If given, each error is divided by it, and the half widths
    are multiples of the scale, so that intervals are wide where the model predicts much noise (section 5.2 there).
    """
    widths = np.full(actual.shape[1], np.inf)
    for column, errors in enumerate((np.abs(predicted - actual) / (1 if scale is None else scale)).T):
        labelled = np.isfinite(errors)
        _, video, clips = np.unique(videos[labelled], return_inverse=True, return_counts=True)
        order = np.argsort(errors[labelled])
        reached = np.cumsum(1 / clips[video[order]]) >= (len(clips) + 1) * level - 1e-9  # rounding
        if reached.any():
            widths[column] = errors[labelled][order][reached.argmax()]
    return widths
