"""Losses for scores in [0, 1], and weights against regression to the mean; each an entry of a dict, chosen by name."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def mse(predicted: Tensor, actual: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error; all (B, traits), weights of mean 1."""
    return (weights * (predicted - actual).square()).mean()


def mae(predicted: Tensor, actual: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error: 1 - accuracy."""
    return (weights * (predicted - actual).abs()).mean()


def huber(predicted: Tensor, actual: Tensor, weights: Tensor) -> Tensor:
    """Quadratic for errors up to 0.1, linear beyond (Huber 1964)."""
    return (weights * torch.nn.functional.huber_loss(predicted, actual, reduction="none", delta=0.1)).mean()


def ccc(predicted: Tensor, actual: Tensor, weights: Tensor) -> Tensor:
    """1 - Lin's (1989) concordance correlation coefficient of each trait over the batch, weighted moments, averaged."""
    share = weights / weights.sum(0)
    mean, actual_mean = (share * predicted).sum(0), (share * actual).sum(0)
    deviation, actual_deviation = predicted - mean, actual - actual_mean
    covariance = (share * deviation * actual_deviation).sum(0)
    spread = (share * deviation.square()).sum(0) + (share * actual_deviation.square()).sum(0)
    return (1 - 2 * covariance / (spread + (mean - actual_mean).square() + 1e-8)).mean()


def mse_ccc(predicted: Tensor, actual: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error, in units of 0.15 squared, the labels' variance in FIV2, plus 1 - CCC: of like size."""
    return mse(predicted, actual, weights) / 0.15**2 + ccc(predicted, actual, weights)


LOSSES: dict[str, Loss] = {"mse": mse, "mae": mae, "huber": huber, "ccc": ccc, "mse_ccc": mse_ccc}


def uniform(labels: np.ndarray) -> np.ndarray:
    """Weigh all clips alike: ones of the shape of `labels` (N, traits)."""
    return np.ones_like(labels)


def label_distribution_smoothing(labels: np.ndarray) -> np.ndarray:
    """Weigh a clip by the inverse square root of how frequent labels like its own are, mean 1, for each trait apart.

    labels: (N, traits) in [0, 1]. The density is a histogram of 100 bins smoothed by a Gaussian of 2 bins cut at 2 (Yang
    et al. 2021, Delving into deep imbalanced regression, section 3.1).
    """
    weights = np.empty_like(labels)
    for trait, values in enumerate(labels.T):
        bins = np.minimum((values * 100).astype(int), 99)
        density = ndimage.gaussian_filter1d(
            np.bincount(bins, minlength=100).astype(float), 2, mode="constant", radius=2
        )
        weights[:, trait] = 1 / np.sqrt(density[bins])
    return weights / weights.mean(0)


WEIGHTINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": uniform,
    "label_distribution_smoothing": label_distribution_smoothing,
}
