"""Geometry of augmentation, the same for images (B, T, C, H, W), flow (B, T, 2, H, W) and points (B, T, P, 2)."""

import torch
from torch import Tensor
from torch.nn import functional

from lib.core.errors import SettingError
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


def shift_clips(values: Tensor, border: int, steps: Tensor) -> Tensor:
    """Return values (B, T, C, H, W) cropped at `steps` (B, 2), down and right, from the image with a replicated border."""
    height, width = values.shape[-2:]
    return torch.stack(
        [
            functional.pad(clip, (border,) * 4, mode="replicate")[..., down : down + height, right : right + width]
            for clip, (down, right) in zip(values, steps.tolist(), strict=True)
        ]
    )


def make_turns(angle: Tensor, zoom: Tensor) -> Tensor:
    """Return the matrices (B, 2, 2) that turn vectors (x right, y down) clockwise by `angle` and lengthen them by `zoom`."""
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    return torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)


def turn_clips(values: Tensor, turns: Tensor, kind: Kind) -> Tensor:
    """Return images or flow (B, T, C, H, W) turned and scaled around their centre by `turns` (B, 2, 2).

    The border is replicated. The vectors of flow are turned and scaled, too: they are displacements in the turned image.
    """
    height, width = values.shape[-2:]
    back = torch.linalg.inv(turns)
    ratio = values.new_tensor([[1, height / width], [width / height, 1]])  # affine_grid counts in halves of the image
    theta = functional.pad(back * ratio, (0, 1))
    grid = functional.affine_grid(theta, [len(values), 1, height, width], align_corners=False)
    flat = functional.grid_sample(values.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    turned = flat.view(values.shape)
    return torch.einsum("bij,btjhw->btihw", turns, turned) if kind == "flow" else turned


def turn_points(points: Tensor, turns: Tensor, size: tuple[int, int]) -> Tensor:
    """Return points (B, T, P, 2) turned and scaled like images of `size`, height and width."""
    centre = points.new_tensor([size[1] / 2, size[0] / 2])
    return torch.einsum("bij,btpj->btpi", turns, points - centre) + centre
