"""Augmentation of a batch on its device, with the same geometry for images, flow and points."""

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
"""Number of points -> for each point, the index of its mirror image (the right eye for the left eye)."""


@dataclass(frozen=True)
class Draws:
    """The random draws for B clips.

    flipped: (B,) bool, whether to mirror the clip. steps: (B, 2), position of the crop in pixels, down and right from the
    upper left corner of the image with a replicated border of `shift` pixels. gain, offset: (B,), contrast and brightness.
    """

    flipped: Tensor
    steps: Tensor
    gain: Tensor
    offset: Tensor
    shift: int

    def select(self, members: slice) -> "Draws":
        """Return the draws for a slice of the clips."""
        return Draws(self.flipped[members], self.steps[members], self.gain[members], self.offset[members], self.shift)


def draw(count: int, mirror: bool, shift: int, brightness: float, contrast: float, generator: torch.Generator) -> Draws:
    """Return the draws for `count` clips: mirrored with probability 0.5, shifted by up to `shift` pixels, light changed."""
    even = torch.rand(count, 3, generator=generator)
    steps = torch.randint(0, 2 * shift + 1, (count, 2), generator=generator)
    gain, offset = 1 + contrast * (2 * even[:, 1] - 1), brightness * (2 * even[:, 2] - 1)
    return Draws((even[:, 0] < 0.5) & mirror, steps, gain, offset, shift)


def augment(batch: Sample, draws: Draws, kinds: Mapping[str, Kind]) -> Sample:
    """Return the batch with augmented images (B, T, 3, H, W) and flow (B, T, 2, H, W).

    Points (B, T, P, 2) are transformed like the images or flow that the same encoder reads. Vectors, and points without
    images, stay unchanged. kinds: the kind of each reference to a stream. Raises InputError if the mirror image of the
    points is unknown.
    """
    inputs = {}
    for encoder, streams in batch.inputs.items():
        width = next(
            (steps.values.shape[-1] for name, steps in streams.items() if kinds[name] in ("pictures", "flow")), None
        )
        inputs[encoder] = {
            name: steps._replace(values=_augment_stream(steps.values, draws, kinds[name], width))
            for name, steps in streams.items()
        }
    return batch._replace(inputs=inputs)


def _augment_stream(values: Tensor, draws: Draws, kind: Kind, width: int | None) -> Tensor:
    if kind == "points" and width is not None:
        moved = draws.shift - draws.steps.flip(1).to(values)  # right, down
        return mirror_points(values, draws.flipped.to(values.device), width) + moved[:, None, None]
    if kind not in ("pictures", "flow"):
        return values
    values = mirror_clips(values, draws.flipped.to(values.device), kind)
    if draws.shift:
        steps = draws.steps.tolist()
        values = torch.stack(
            [_shift_clip(clip, draws.shift, *offsets) for clip, offsets in zip(values, steps, strict=True)]
        )
    if kind == "pictures":
        gain, offset = (draw.to(values.device).view(-1, 1, 1, 1, 1) for draw in (draws.gain, draws.offset))
        values = ((values - 0.5) * gain + 0.5 + offset).clamp(0, 1)
    return values


def mirror_clips(values: Tensor, flipped: Tensor, kind: Kind) -> Tensor:
    """Return values (B, T, C, H, W) with the clips mirrored where `flipped` (B,) is True.

    For flow, the horizontal component is also negated, because motion to the left becomes motion to the right.
    """
    mirrored = values.flip(-1)
    if kind == "flow":
        mirrored = mirrored * values.new_tensor([-1, 1]).view(1, 1, 2, 1, 1)
    return torch.where(flipped.view(-1, 1, 1, 1, 1), mirrored, values)


def mirror_points(points: Tensor, flipped: Tensor, width: int) -> Tensor:
    """Return points (B, T, P, 2), x and y in pixels of images of this `width`, mirrored where `flipped` (B,) is True.

    Points are also reordered, because the left eye becomes the right eye. Raises InputError if the mirror images of P points
    are unknown.
    """
    if not flipped.any():
        return points
    count = points.shape[2]
    if count not in _IN_MIRROR:
        allowed = " or ".join(map(str, _IN_MIRROR))
        raise SettingError(
            f"train.augment.mirror = true with {count} points; allowed: {allowed} points, or mirror = false"
        )
    mirrored = points[:, :, _IN_MIRROR[count]]
    mirrored = torch.stack([width - mirrored[..., 0], mirrored[..., 1]], -1)
    return torch.where(flipped.view(-1, 1, 1, 1), mirrored, points)


def _shift_clip(clip: Tensor, border: int, down: int, right: int) -> Tensor:
    height, width = clip.shape[-2:]
    padded = functional.pad(clip, (border,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]
