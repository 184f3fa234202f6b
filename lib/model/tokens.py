"""What encoders return and fusions take."""

from typing import NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """An encoder's tokens of a batch, t times h w places, in the order time, row, column.

    values: (B, t h w, D). times: (B, t) in seconds. present: (B, t). grid: (h, w); (1, 1) where there is no place.
    """

    values: Tensor
    times: Tensor
    present: Tensor
    grid: tuple[int, int]

    def mask(self) -> Tensor:
        """(B, t h w), True where there is a token."""
        height, width = self.grid
        return self.present.repeat_interleave(height * width, dim=1)


def of_maps(maps: Tensor, times: Tensor, present: Tensor) -> Tokens:
    """Feature maps (B, D, t, h, w) as tokens."""
    height, width = maps.shape[3:]
    return Tokens(maps.flatten(2).transpose(1, 2), times, present, (height, width))


def of_clip(values: Tensor, times: Tensor, present: Tensor) -> Tokens:
    """One vector a clip (B, D) as a token in the middle of its steps (B, T) that are there."""
    there = present.to(times.dtype)
    middle = (times * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
    return Tokens(values[:, None], middle, present.any(1, keepdim=True), (1, 1))
