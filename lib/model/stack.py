"""Regressions on vectors of a clip, added up with the weights of a stack (Breiman 1996), as a part of a network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.batch import Inputs

_TREE = ("target", "feature", "threshold", "left", "right", "missing_left", "value")
_RIDGE = ("numbers", "low", "high", "mean", "std")


class Stack(nn.Module):
    """The weighted sum of R ridge regressions, of boosted trees, and of one other prediction, for K targets.

    All tensors are buffers. They have no elements before `set`. When a model is loaded, they take the shapes of the saved
    ones, which depend on the training clips.

    A part of ridge regressions has one for each set of targets with labels for the same clips. The weights of its other
    targets are 0.

    sizes (R,): number of numbers that each ridge regression reads; the next tensors have these C numbers one ridge after the
    other. numbers (C,): positions among the numbers of `pool_inputs`. low, high, mean, std (C,): limits of each number; mean
    and standard deviation inside them. coefficients (C, K): of standardised numbers. levels (R, K): the prediction of each
    ridge for the mean. target (T,): the column that each of T trees predicts; they have up to M nodes, with the root first.
    feature (T, M): the position of the number that is compared with threshold (T, M). left, right (T, M): the next node for
    a number up to the threshold, and above it; a leaf points to itself. missing_left (T, M): 1 if a missing number goes to
    the left. value (T, M): of leaves. trees_level (K,): is added to the trees' sums. weights, centres (P, K), level (K,):
    the stack of all P parts, as in lib.regression.stacking.Weights: ridges first, then trees, then the other prediction.

    Positions are stored as float64: a moving average of weights would truncate integers.
    """

    sizes: Tensor
    numbers: Tensor
    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor
    target: Tensor
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor
    coefficients: Tensor
    levels: Tensor
    trees_level: Tensor
    weights: Tensor
    centres: Tensor
    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("sizes", *_RIDGE, *_TREE, "coefficients", "levels", "trees_level", "weights", "centres", "level"):
            self.register_buffer(name, torch.zeros(0))
        self._sizes: list[int] = []

    def set(self, **tensors: Tensor) -> None:
        """Set tensors by name; those that are not given have no elements."""
        for name, values in tensors.items():
            setattr(self, name, values)
        self._sizes = [int(size) for size in self.sizes]

    @property
    def is_fitted(self) -> bool:
        """Whether the tensors are set."""
        return bool(self.level.numel())

    def forward(self, numbers: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the weighted sum (B, K), given the clips' numbers (B, D), NaN where missing, and the other prediction."""
        parts = [*self.predict_ridges(numbers), *([self.predict_trees(numbers)] if self.target.numel() else [])]
        stacked = torch.stack([*parts, *([] if other is None else [other])]) - self.centres[:, None]
        return (stacked * self.weights[:, None]).sum(0) + self.level

    def predict_ridges(self, numbers: Tensor) -> list[Tensor]:
        """Return the prediction (B, K) of each ridge; the mean of the labels for a clip without any of its numbers."""
        read = numbers[:, self.numbers.long()]
        missing = read.isnan()
        standardised = (read.clamp(self.low, self.high) - self.mean) / self.std
        standardised = torch.where(missing, 0, standardised)
        arrays = (
            standardised.split(self._sizes, 1),
            missing.split(self._sizes, 1),
            self.coefficients.split(self._sizes),
        )
        return [
            torch.where(is_missing.all(1, keepdim=True), self.level, values @ coefficients + level)
            for values, is_missing, coefficients, level in zip(*arrays, self.levels, strict=True)
        ]

    def predict_trees(self, numbers: Tensor) -> Tensor:
        """Return the trees' prediction (B, K)."""
        trees, nodes = self.feature.shape
        rows = torch.arange(trees, device=numbers.device)
        node = torch.zeros(numbers.shape[0], trees, dtype=torch.long, device=numbers.device)
        feature, next_left, next_right = (values.long() for values in (self.feature, self.left, self.right))
        for _ in range((nodes - 1) // 2):  # a tree with (nodes + 1) / 2 leaves is not deeper
            values = numbers.gather(1, feature[rows, node]).to(self.threshold)
            # no torch.where, which ONNX Runtime does not have for Booleans; a comparison with NaN is False
            to_left = (values <= self.threshold[rows, node]) | (values.isnan() & (self.missing_left[rows, node] > 0))
            node = torch.where(to_left, next_left[rows, node], next_right[rows, node])
        sums = torch.zeros(numbers.shape[0], len(self.trees_level), dtype=self.value.dtype, device=numbers.device)
        sums = sums.index_add(1, self.target.long(), self.value[rows, node])
        return (sums + self.trees_level).to(numbers)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        for name in list(self._buffers):
            if (saved := state_dict.get(f"{prefix}{name}")) is not None:
                setattr(self, name, torch.empty_like(saved, device=self.level.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._sizes = [int(size) for size in self.sizes]


def pool_inputs(inputs: Inputs, names: Sequence[str]) -> Tensor:
    """Return the numbers (B, D) of clips: for each stream of the encoders `names`, mean and standard deviation over time.

    A stream's steps are (B, T, N), or (B, T, L, N) with layers, which are averaged. Numbers of a clip without steps, and
    numbers that are missing (NaN) in all steps, are NaN.
    """
    parts = []
    for steps in (steps for name in names for steps in inputs[name].values()):
        values = steps.values.float()
        values = values.mean(2) if values.dim() == 4 else values
        is_number = steps.present[..., None] & ~values.isnan()
        count = is_number.sum(1)
        mean = torch.where(is_number, values, 0).sum(1) / count.clamp(min=1)
        squares = torch.where(is_number, values - mean[:, None], 0).square().sum(1) / count.clamp(min=1)
        # the smallest deviation keeps the gradient of a constant finite
        deviation = torch.where(squares > 1e-12, squares.clamp(min=1e-12).sqrt(), 0)
        parts += [torch.where(count > 0, part, torch.nan) for part in (mean, deviation)]
    return torch.cat(parts, 1)
