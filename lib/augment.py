"""Augmentation of a batch on its device: the same geometry for faces and flow."""

import torch
from torch import Tensor
from torch.nn import functional


def augment(
    batch: dict[str, Tensor], mirror: bool, shift: int, brightness: float, contrast: float
) -> dict[str, Tensor]:
    """Return the batch with each clip mirrored (by half a chance), shifted, and its faces' light changed.

    A mirrored clip's flow is mirrored *and* its horizontal component negated: what moved left now moves right.
    """
    faces, flow = batch["faces"], batch["flow"]
    size = len(faces)
    if mirror:
        flipped = torch.rand(size, device=faces.device) < 0.5
        faces, flow = mirror_clips(faces, flow, flipped)
    if shift:
        steps = torch.randint(0, 2 * shift + 1, (size, 2)).tolist()
        faces = torch.stack([_shifted(clip, shift, *by) for clip, by in zip(faces, steps, strict=True)])
        flow = torch.stack([_shifted(clip, shift, *by) for clip, by in zip(flow, steps, strict=True)])
    gain = 1 + contrast * (2 * torch.rand(size, 1, 1, 1, 1, device=faces.device) - 1)
    offset = brightness * (2 * torch.rand(size, 1, 1, 1, 1, device=faces.device) - 1)
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
