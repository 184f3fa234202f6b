"""Losses for targets in units of their range, each an entry of LOSSES."""

from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.model.heads import HeadOutput

_EPSILON = 1e-8  # keeps logarithms and quotients finite; in `kl` the value of SSL-MEPR


class Loss(Protocol):
    """A loss. Read this before writing one, then add it to LOSSES, and to the heads that it fits in
    `lib.core.targets.LOSSES_OF_HEADS`.

    It returns one number, the mean over the known targets, which backpropagates to the prediction. All is in units of the
    group's range, (B, K). actual: NaN where a target is unknown. weights: of each clip and target, with the mean 1. Where
    nothing is known it returns 0 that still depends on the prediction. It must be finite wherever the prediction is.
    """

    def __call__(self, predicted: HeadOutput, actual: Tensor, weights: Tensor) -> Tensor: ...


def mse(predicted: HeadOutput, actual: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error."""
    return _mean(weights * (predicted.mean - actual.nan_to_num()).square(), actual.isfinite())


def mae(predicted: HeadOutput, actual: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error: 1 - accuracy."""
    return _mean(weights * (predicted.mean - actual.nan_to_num()).abs(), actual.isfinite())


def huber(predicted: HeadOutput, actual: Tensor, weights: Tensor, delta: float = 0.1) -> Tensor:
    """Quadratic for errors up to `delta`, linear beyond (Huber 1964)."""
    of_each = functional.huber_loss(predicted.mean, actual.nan_to_num(), reduction="none", delta=delta)
    return _mean(weights * of_each, actual.isfinite())


def ccc(predicted: HeadOutput, actual: Tensor, weights: Tensor) -> Tensor:
    """1 - Lin's (1989) concordance correlation coefficient of each target over the batch, weighted moments, averaged."""
    weights, actual = weights * actual.isfinite(), actual.nan_to_num()
    total = weights.sum(0)
    share = weights / torch.where(total > 0, total, 1)
    mean, actual_mean = (share * predicted.mean).sum(0), (share * actual).sum(0)
    deviation, actual_deviation = predicted.mean - mean, actual - actual_mean
    covariance = (share * deviation * actual_deviation).sum(0)
    spread = (share * deviation.square()).sum(0) + (share * actual_deviation.square()).sum(0)
    return _mean(1 - 2 * covariance / (spread + (mean - actual_mean).square() + _EPSILON), total > 0)


def mse_ccc(predicted: HeadOutput, actual: Tensor, weights: Tensor, std: float = 0.15) -> Tensor:
    """Mean squared error divided by the square of `std`, plus 1 - CCC.

    With the standard deviation of the labels, 0.15 in FIV2, both terms are about 1 for a constant prediction.
    """
    return mse(predicted, actual, weights) / std**2 + ccc(predicted, actual, weights)


def kl(predicted: HeadOutput, actual: Tensor, weights: Tensor) -> Tensor:
    """Kullback-Leibler divergence of predicted from actual shares, the mean over clips whose shares are all known."""
    shares = actual.nan_to_num()
    logarithms = (shares + _EPSILON).log() - predicted.mean.clamp(min=_EPSILON).log()
    return _mean((weights * shares * logarithms).sum(1), actual.isfinite().all(1))


def bce(predicted: HeadOutput, actual: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy on logits, for targets that are present or absent."""
    of_each = functional.binary_cross_entropy_with_logits(predicted.logits, actual.nan_to_num(), reduction="none")
    return _mean(weights * of_each, actual.isfinite())


def gaussian_nll(predicted: HeadOutput, actual: Tensor, weights: Tensor) -> Tensor:
    """Negative log-likelihood of the labels under normal distributions, without the constant log(2 pi) / 2."""
    errors = (predicted.mean - actual.nan_to_num()) / predicted.scale
    return _mean(weights * (0.5 * errors.square() + predicted.scale.log()), actual.isfinite())


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean of what is known, chosen after it is computed from finite numbers alone: NaN times 0 is a gradient of NaN."""
    return values[known].mean() if bool(known.any()) else 0 * values.sum()


LOSSES: dict[str, Loss] = {
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "ccc": ccc,
    "mse_ccc": mse_ccc,
    "kl": kl,
    "bce": bce,
    "gaussian_nll": gaussian_nll,
}


def find_loss(group: TargetGroup) -> Loss:
    """Return the loss of a target group, with the numbers that the group sets for it."""
    options: dict[str, dict[str, Any]] = {
        "huber": {"delta": group.huber_delta},
        "mse_ccc": {"std": group.mse_std},
    }
    return partial(LOSSES[group.loss], **options.get(group.loss, {}))


def weigh_columns(group: TargetGroup, labels: np.ndarray) -> np.ndarray:
    """Return the weights (K,) of a group's columns, ones where none are asked for; labels (N, K) in units of the range.

    Raises InputError if "balanced" is asked for and a column is nowhere above the range's lower end.
    """
    if group.column_weights is None:
        return np.ones(len(group.columns))
    if group.column_weights != "balanced":
        return np.array(group.column_weights)
    means = np.array([values[np.isfinite(values)].mean() if np.isfinite(values).any() else 0 for values in labels.T])
    if not (means > 0).all():
        raise InputError(
            f"column_weights = balanced for {', '.join(group.columns)}, but no training clip has"
            f" {group.columns[int(means.argmin())]}; give numbers, or null"
        )
    return (1 / means) / (1 / means).mean()


def count_known(loss: str, labels: np.ndarray) -> np.ndarray:
    """Return the number (N,) of each clip's labels that enter the loss; labels (N, K). "kl" uses complete clips only."""
    known = np.isfinite(labels)
    return known.all(1).astype(int) if loss == "kl" else known.sum(1)
