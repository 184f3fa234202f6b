"""Augmentation of a batch on its device: the same geometry for pictures and flow."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lib.data.batch import Sample
from lib.streams.base import Kind


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
    """Return the batch with pictures (B, T, 3, H, W) and flow (B, T, 2, H, W) changed as drawn, vectors as they are.

    kinds: of each reference to a stream that is read.
    """
    inputs = {
        encoder: {
            name: steps._replace(values=_augmented(steps.values, draws, kinds[name])) for name, steps in read.items()
        }
        for encoder, read in batch.inputs.items()
    }
    return batch._replace(inputs=inputs)


def _augmented(values: Tensor, draws: Draws, kind: Kind) -> Tensor:
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


def _shifted(clip: Tensor, most: int, down: int, right: int) -> Tensor:
    height, width = clip.shape[-2:]
    padded = functional.pad(clip, (most,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]
