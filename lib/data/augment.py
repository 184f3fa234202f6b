"""Augmentation of a batch on its device: the same geometry for pictures, flow and points."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lib.core.errors import SettingError
from lib.data.batch import Sample
from lib.streams.base import Kind

_IN_MIRROR: dict[int, list[int]] = {
    # eyes, nose, corners of the mouth
    5: [1, 0, 2, 4, 3],
    # jaw, brows, nose, nostrils, eyes, outer and inner lips (Sagonas et al. 2013, 300 Faces in-the-Wild)
    68: [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],
}
"""Of each number of points, which of them stands at a point's place in a mirror: the right eye at the left one's."""


@dataclass(frozen=True)
class Draws:
    """What chance chose for each of B clips."""

    flipped: Tensor  # (B,) bool
    steps: Tensor  # (B, 2) pixels down and right of the upper left corner of the replicated border
    gain: Tensor  # (B,)
    offset: Tensor  # (B,)
    shift: int  # width of that border

    def of(self, members: slice) -> "Draws":
        """Those of some of the clips."""
        return Draws(self.flipped[members], self.steps[members], self.gain[members], self.offset[members], self.shift)


def draw(count: int, mirror: bool, shift: int, brightness: float, contrast: float, generator: torch.Generator) -> Draws:
    """Choose for `count` clips: mirrored by half a chance, shifted by up to `shift` pixels, light changed."""
    even = torch.rand(count, 3, generator=generator)
    steps = torch.randint(0, 2 * shift + 1, (count, 2), generator=generator)
    gain, offset = 1 + contrast * (2 * even[:, 1] - 1), brightness * (2 * even[:, 2] - 1)
    return Draws((even[:, 0] < 0.5) & mirror, steps, gain, offset, shift)


def augment(batch: Sample, draws: Draws, kinds: Mapping[str, Kind]) -> Sample:
    """Return the batch with pictures (B, T, 3, H, W) and flow (B, T, 2, H, W) changed as drawn, points (B, T, P, 2) with the
    pictures or flow that the same encoder reads, vectors, and points alone, as they are.

    kinds: of each reference to a stream that is read. Raises InputError if it isn't known how the points are mirrored.
    """
    inputs = {}
    for encoder, read in batch.inputs.items():
        width = next((one.values.shape[-1] for name, one in read.items() if kinds[name] in ("pictures", "flow")), None)
        inputs[encoder] = {
            name: steps._replace(values=_augmented(steps.values, draws, kinds[name], width))
            for name, steps in read.items()
        }
    return batch._replace(inputs=inputs)


def _augmented(values: Tensor, draws: Draws, kind: Kind, width: int | None) -> Tensor:
    if kind == "points" and width is not None:
        moved = draws.shift - draws.steps.flip(1).to(values)  # right, down
        return mirror_points(values, draws.flipped.to(values.device), width) + moved[:, None, None]
    if kind not in ("pictures", "flow"):
        return values
    values = mirror_clips(values, draws.flipped.to(values.device), kind)
    if draws.shift:
        steps = draws.steps.tolist()
        values = torch.stack([_shifted(clip, draws.shift, *by) for clip, by in zip(values, steps, strict=True)])
    if kind == "pictures":
        gain, offset = (of.to(values.device).view(-1, 1, 1, 1, 1) for of in (draws.gain, draws.offset))
        values = ((values - 0.5) * gain + 0.5 + offset).clamp(0, 1)
    return values


def mirror_clips(values: Tensor, flipped: Tensor, kind: Kind) -> Tensor:
    """Mirror the clips where `flipped` (B,) is true; values (B, T, C, H, W).

    A mirrored clip's flow is mirrored *and* its horizontal component negated: what moved left now moves right.
    """
    mirrored = values.flip(-1)
    if kind == "flow":
        mirrored = mirrored * values.new_tensor([-1, 1]).view(1, 1, 2, 1, 1)
    return torch.where(flipped.view(-1, 1, 1, 1, 1), mirrored, values)


def mirror_points(points: Tensor, flipped: Tensor, width: int) -> Tensor:
    """Mirror points (B, T, P, 2), x and y in pixels, with their pictures of that `width` where `flipped` (B,) is true: what
    was the left eye is the right one.

    Raises InputError if it isn't known which of P points are each other's mirror image.
    """
    if not flipped.any():
        return points
    count = points.shape[2]
    if count not in _IN_MIRROR:
        allowed = " or ".join(map(str, _IN_MIRROR))
        raise SettingError(f"train.augment.mirror = true; allowed with {allowed} points, not with {count}")
    mirrored = points[:, :, _IN_MIRROR[count]]
    mirrored = torch.stack([width - mirrored[..., 0], mirrored[..., 1]], -1)
    return torch.where(flipped.view(-1, 1, 1, 1), mirrored, points)


def _shifted(clip: Tensor, most: int, down: int, right: int) -> Tensor:
    height, width = clip.shape[-2:]
    padded = functional.pad(clip, (most,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]
