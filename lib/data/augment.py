"""Augmentation of a batch on its device: the same geometry for faces and flow."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


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


def augment(batch: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
    """Return the batch with `faces` (B, K, 3, S, S) and `flow` (B, 2, T, S, S) changed as drawn.

    A mirrored clip's flow is mirrored *and* its horizontal component negated: what moved left now moves right.
    """
    device = batch["faces"].device
    faces, flow = mirror_clips(batch["faces"], batch["flow"], draws.flipped.to(device))
    if draws.shift:
        faces, flow = (
            torch.stack(
                [_shifted(clip, draws.shift, *by) for clip, by in zip(clips, draws.steps.tolist(), strict=True)]
            )
            for clips in (faces, flow)
        )
    gain, offset = (value.to(device).view(-1, 1, 1, 1, 1) for value in (draws.gain, draws.offset))
    faces = ((faces - 0.5) * gain + 0.5 + offset).clamp(0, 1)
    return batch | {"faces": faces, "flow": flow}


def mirror_clips(faces: Tensor, flow: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror the clips where `flipped` (B,) is true: faces (B, K, 3, S, S), flow (B, 2, T, S, S)."""
    where = flipped.view(-1, 1, 1, 1, 1)
    negated = flow.flip(-1) * flow.new_tensor([-1, 1]).view(1, 2, 1, 1, 1)
    return torch.where(where, faces.flip(-1), faces), torch.where(where, negated, flow)


def _shifted(clip: Tensor, most: int, down: int, right: int) -> Tensor:
    height, width = clip.shape[-2:]
    padded = functional.pad(clip, (most,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]
