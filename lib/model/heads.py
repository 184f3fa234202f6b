"""Heads: from the fusion's vectors to the predictions of a target group. `targets.NAME.head` chooses one by name."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.core.estimates import average_windows
from lib.core.targets import TargetGroup, check_head


class HeadOutput(NamedTuple):
    """Predictions of a target group: tensors (B, K), or arrays (N, K) of a complete split; in units of the group's range
    unless `from_unit` has converted them.

    scale: the predicted standard deviation of the label, None for heads without one. logits: of the mean, None for heads
    that are not trained on logits.
    """

    mean: Any
    scale: Any = None
    logits: Any = None

    def from_unit(self, group: TargetGroup) -> Self:
        """Return mean and scale in the table's units."""
        scale = None if self.scale is None else self.scale * group.span
        return self._replace(mean=group.from_unit(self.mean), scale=scale)

    def clip_arrays(self, index: int) -> "HeadOutput":
        """Return the prediction of one clip of a batch as float64 arrays (K,)."""
        return HeadOutput(*(None if part is None else part[index].double().cpu().numpy() for part in self))


class Head(nn.Module):
    """Predicts one target group. Read this before writing a head, then add the class to HEADS and its losses to
    `lib.core.targets.LOSSES_OF_HEADS`.

    A subclass implements `predict`. It may set `outputs` and `bounded`, and override `initialise` (the linear layer's
    weights before training) and `combine` (several predictions to one). A group's targets are in units of its range, 0 to 1.

    inputs: width of each vector that the fusion returns. targets: number of columns. vectors: number of vectors that the
    fusion returns for a clip; each has a linear layer of its own, after `dropout`.
    """

    outputs: ClassVar[int] = 1
    """Number of values that the linear layer returns for each target."""
    scaled: ClassVar[bool] = False
    """Whether predictions have a scale."""
    bounded: ClassVar[bool] = True
    """Whether the mean stays within the range. If so, intervals end there."""
    linked: ClassVar[bool] = False
    """Whether a linear path can be added to the linear layer's output: the head then implements `unlink`."""

    def __init__(self, inputs: int, targets: int, vectors: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, self.outputs * targets) for _ in range(vectors)]
        for layer in layers:
            self.initialise(layer)
        self.layers = nn.ModuleList(nn.Sequential(nn.Dropout(dropout), layer) for layer in layers)

    def initialise(self, layer: nn.Linear) -> None:
        """Set the linear layer's weights before training; by default they stay as PyTorch sets them."""

    def predict(self, raw: Tensor) -> HeadOutput:
        """Return the prediction from the linear layer's output (B, outputs * K)."""
        raise NotImplementedError

    @staticmethod
    def unlink(labels: np.ndarray) -> np.ndarray:
        """Return the linear layer's output (N, K) for which the mean would be `labels` (N, K), in units of the range."""
        raise NotImplementedError

    def combine(self, predictions: Sequence[HeadOutput]) -> HeadOutput:
        """Return one prediction from those of several vectors: the mean."""
        return HeadOutput(torch.stack([one.mean for one in predictions]).mean(0))

    def forward(self, vectors: Sequence[Tensor], path: Tensor | None = None) -> HeadOutput:
        """Return the prediction from the fusion's vectors, (B, inputs) each.

        path: (B, K), is added to the output of each linear layer.
        """
        raw = [layer(vector) for layer, vector in zip(self.layers, vectors, strict=True)]
        predictions = [self.predict(values if path is None else values + path) for values in raw]
        return predictions[0] if len(predictions) == 1 else self.combine(predictions)


class Sigmoid(Head):
    """Values within the range."""

    linked = True

    @staticmethod
    def unlink(labels: np.ndarray) -> np.ndarray:
        """Return the logits; labels at the ends of the range count as 2 % within it."""
        inside = labels.clip(0.02, 0.98)
        return np.log(inside / (1 - inside))

    def predict(self, raw: Tensor) -> HeadOutput:
        """Squash each value into the range."""
        return HeadOutput(raw.sigmoid())


class Linear(Head):
    """Unbounded values. Training begins at the middle of the range."""

    bounded = False
    linked = True

    @staticmethod
    def unlink(labels: np.ndarray) -> np.ndarray:
        """Return the labels."""
        return labels

    def initialise(self, layer: nn.Linear) -> None:
        """Set the bias to the middle of the range."""
        nn.init.constant_(layer.bias, 0.5)

    def predict(self, raw: Tensor) -> HeadOutput:
        """Return the values without change."""
        return HeadOutput(raw)


class Softmax(Head):
    """Shares that add up to 1."""

    def predict(self, raw: Tensor) -> HeadOutput:
        """Return the softmax over the group's targets."""
        return HeadOutput(raw.softmax(-1))


class Binary(Head):
    """Probabilities of what is present or absent, trained on their logits: the gradient never vanishes where a probability
    saturates at 0 or 1."""

    def predict(self, raw: Tensor) -> HeadOutput:
        """Return probabilities and logits."""
        return HeadOutput(raw.sigmoid(), logits=raw)

    def combine(self, predictions: Sequence[HeadOutput]) -> HeadOutput:
        """Return the mean probability, and its logit, computed from the logits."""
        logits = torch.stack([one.logits for one in predictions])
        present, absent = (functional.logsigmoid(sign * logits).logsumexp(0) for sign in (1, -1))
        return HeadOutput(logits.sigmoid().mean(0), logits=present - absent)


class Gaussian(Head):
    """Unbounded values, each with the standard deviation of its label: a normal distribution for each target.

    The scale has a lower bound. Without one, the likelihood of a label that is predicted exactly would be infinite. Training
    begins at the middle of the range with a scale of 0.15, about the standard deviation of the labels in FIV2.
    """

    outputs = 2
    scaled = True
    bounded = False
    lowest_scale = 0.01

    def initialise(self, layer: nn.Linear) -> None:
        """Set the biases of means and scales."""
        means, scales = layer.bias.chunk(2)
        nn.init.constant_(means, 0.5)
        nn.init.constant_(scales, math.log(math.expm1(0.15 - self.lowest_scale)))  # the inverse of softplus

    def predict(self, raw: Tensor) -> HeadOutput:
        """Return means and scales."""
        means, scales = raw.chunk(2, -1)
        return HeadOutput(means, self.lowest_scale + functional.softplus(scales))

    def combine(self, predictions: Sequence[HeadOutput]) -> HeadOutput:
        """Return mean and standard deviation of the mixture of the normal distributions."""
        means = torch.stack([one.mean for one in predictions])
        variances = torch.stack([one.scale for one in predictions]).square()
        return HeadOutput(means.mean(0), (variances.mean(0) + means.var(0, correction=0)).sqrt())


HEADS: dict[str, type[Head]] = {
    "sigmoid": Sigmoid,
    "linear": Linear,
    "softmax": Softmax,
    "binary": Binary,
    "gaussian": Gaussian,
}


def average_predictions(predictions: Sequence[HeadOutput], weights: Sequence[float]) -> HeadOutput:
    """Return the weighted mean of predictions that are arrays, for instance of a clip's windows.

    The scale is that of the mixture: it contains how far the predictions differ.
    """
    means = np.array([prediction.mean for prediction in predictions])
    has_scale = predictions[0].scale is not None
    scales = np.array([prediction.scale for prediction in predictions]) if has_scale else None
    return HeadOutput(*average_windows(means, scales, weights))


def find_head(group: TargetGroup) -> type[Head]:
    """Return the class of a group's head. Raises InputError for an unknown head, and for settings that don't fit."""
    check_head(group)
    return HEADS[group.head]
