"""Measures of optical flow: the functional that TV-L1 minimises, and the error on images moved by a known deformation."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional


def energy(previous: Tensor, next: Tensor, flow: Tensor, data_weight: float = 0.15, border: int = 8) -> Tensor:
    """Return (B,) the mean of `data_weight` |next(x + u) - previous(x)| + |grad u1| + |grad u2|.

    Images are (B, H, W) in grey levels from 0 to 255, flow is (B, 2, H, W) in pixels. Pixels within `border` of the edge are
    left out.
    """
    height, width = previous.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([(x + flow[:, 0]) * 2 / (width - 1) - 1, (y + flow[:, 1]) * 2 / (height - 1) - 1], -1)
    warped = functional.grid_sample(next[:, None].float(), grid, "bicubic", "border", align_corners=True)[:, 0]
    across = functional.pad(flow.diff(dim=3), (0, 1))
    down = functional.pad(flow.diff(dim=2), (0, 0, 0, 1))
    density = data_weight * (warped - previous.float()).abs() + (across.square() + down.square()).sqrt().sum(1)
    return density[:, border:-border, border:-border].mean((1, 2))


def move_image(image: np.ndarray, flow: np.ndarray) -> Tensor:
    """Return the image, uint8 (1, H, W), that `flow` (2, H, W) carries to `image` (H, W)."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    picture = ndimage.map_coordinates(image.astype(float), [y + flow[1], x + flow[0]], order=3, mode="nearest")
    return torch.from_numpy(picture).round().clamp(0, 255).to(torch.uint8)[None]


def add_noise(image: Tensor, deviation: float, seed: int = 0) -> Tensor:
    """Return a uint8 image with Gaussian noise, whose standard deviation is `deviation` grey levels."""
    noise = deviation * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + noise).round().clamp(0, 255).to(torch.uint8)


def deformation(size: int, amplitude: float) -> np.ndarray:
    """Return a smooth flow (2, size, size) of up to `amplitude` pixels in each component."""
    y, x = np.mgrid[:size, :size] * (112 / size)
    return amplitude * np.stack([np.sin(x / 40 + 1) * np.cos(y / 50), np.cos(x / 45) * np.sin(y / 35 + 1)])


def endpoint_error(flow: Tensor, expected: np.ndarray, border: int = 12) -> float:
    """Return the mean endpoint error in pixels between two flows (2, H, W), without a border."""
    return float(np.linalg.norm(flow.numpy() - expected, axis=0)[border:-border, border:-border].mean())
