"""Weights of clips against regression to the mean, each an entry of WEIGHTINGS."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Density(NamedTuple):
    """How the density of labels is estimated: a histogram of `bins` equal bins over the range, smoothed by a Gaussian.

    std: standard deviation of the Gaussian, in bins. radius: number of bins on each side after which the Gaussian ends.
    """

    bins: int = 100
    std: float = 2.0
    radius: int = 2


DENSITY = Density()


def uniform(labels: np.ndarray, density: Density = DENSITY) -> np.ndarray:
    """Give all clips the same weight: ones of the shape of `labels` (N, K)."""
    return np.ones_like(labels)


def label_distribution_smoothing(labels: np.ndarray, density: Density = DENSITY) -> np.ndarray:
    """Weigh a clip by the inverse square root of how frequent labels like its own are, mean 1, for each target apart.

    labels: (N, K) in [0, 1], NaN where unknown; the weight there is 1. By default the histogram has 100
    bins, and the Gaussian of 2 bins is cut at 2 (Yang et al. 2021, Delving into deep imbalanced regression, section 3.1).
    """
    from scipy.ndimage import gaussian_filter1d  # it takes time to load

    weights = np.ones_like(labels)
    for target, values in enumerate(labels.T):
        labelled = np.isfinite(values)
        if not labelled.any():
            continue
        bins = np.minimum((values[labelled] * density.bins).astype(int), density.bins - 1)
        counts = np.bincount(bins, minlength=density.bins).astype(float)
        smoothed = gaussian_filter1d(counts, density.std, mode="constant", radius=density.radius)
        raw_weights = 1 / np.sqrt(smoothed[bins])
        weights[labelled, target] = raw_weights / raw_weights.mean()
    return weights


WEIGHTINGS: dict[str, Callable[[np.ndarray, Density], np.ndarray]] = {
    "none": uniform,
    "label_distribution_smoothing": label_distribution_smoothing,
}
