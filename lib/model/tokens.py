"""The output of encoders and input of fusions."""

from typing import NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """An encoder's tokens of a batch, at t times in h w cells, in the order time, row, column.

    values: (B, t h w, D). times: (B, t) in seconds. present: (B, t). grid: (h, w); (1, 1) for tokens without a position.
    """

    values: Tensor
    times: Tensor
    present: Tensor
    grid: tuple[int, int]

    def mask(self) -> Tensor:
        """Return (B, t h w), True for tokens that are present."""
        height, width = self.grid
        return self.present.repeat_interleave(height * width, dim=1)


def make_map_tokens(maps: Tensor, times: Tensor, present: Tensor) -> Tokens:
    """Return feature maps (B, D, t, h, w) as tokens."""
    height, width = maps.shape[3:]
    return Tokens(maps.flatten(2).transpose(1, 2), times, present, (height, width))


def make_clip_token(values: Tensor, times: Tensor, present: Tensor) -> Tokens:
    """Return one vector per clip (B, D) as a token at the mean time of the steps (B, T) that are present."""
    weights = present.to(times.dtype)
    middle = (times * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    return Tokens(values[:, None], middle, present.any(1, keepdim=True), (1, 1))


def measure_distance(queries: Tokens, keys: Tokens) -> Tensor:
    """Return the distance in time (B, N, M) in seconds between each of N queries and each of M keys."""
    query_times, key_times = (
        tokens.times.repeat_interleave(tokens.grid[0] * tokens.grid[1], dim=1) for tokens in (queries, keys)
    )
    return (query_times[:, :, None] - key_times[:, None]).abs()
