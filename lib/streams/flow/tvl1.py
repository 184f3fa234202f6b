"""Dense TV-L1 optical flow of a batch of image pairs, on whatever device the images are.

The pyramid's levels are solved by `compiled` on a CPU and by `gpu` on a GPU for which Triton is installed;
the PyTorch code here is what both are held against, and what runs elsewhere.
"""

import functools
import os
import shutil
import sysconfig
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST_LEVEL = 8  # pixels; below it a pyramid level tells nothing
_SHARPNESS = -0.75  # a of Keys (1981, Cubic convolution interpolation), as in OpenCV and PyTorch


@torch.no_grad()
def tvl1(
    previous: Tensor,
    next: Tensor,
    *,
    lambda_: float,
    theta: float,
    tau: float,
    scales: int,
    scale_step: float,
    warps: int,
    iterations: int,
    epsilon: float,
    median: bool,
) -> Tensor:
    """Return the flow (B, 2, H, W), x then y, in pixels, that carries `previous` to `next`: next(x + u(x)) = previous(x).

    Minimises lambda |next(x + u) - previous(x)| + |grad u1| + |grad u2| by the duality-based scheme of Zach, Pock and
    Bischof (2007, A duality based approach for realtime TV-L1 optical flow) with forward differences and warps from
    coarse to fine, as in Sánchez, Meinhardt-Llopis and Facciolo (2013, TV-L1 optical flow estimation, IPOL).

    Where x + u(x) lies outside the picture the data term is switched off, and the flow is carried on smoothly.

    previous, next: (B, H, W), uint8 or float, grey levels from 0 to 255. float64 is computed in float64, slowly; all
    else in float32.
    lambda_: weight of the data term. theta: tightness of the coupling of data and smoothness term.
    tau: time step of the dual ascent, stable up to 0.25.
    scales, scale_step: pyramid levels, the finest included, and the ratio of their sizes, in (0, 1).
    warps: linearisations a level.
    iterations, epsilon: iterations for each warp end after so many, or for a pair once the root mean square over its
    pixels of u's change is below `epsilon` pixels, whatever the other pairs of the batch do.
    median: filter the flow by a 3 x 3 median before each warp, as Wedel et al. (2009) advise.

    Raises ValueError for images of other or different shapes, or with NaN or infinite values.
    """
    if previous.ndim != 3 or previous.shape != next.shape:
        raise ValueError(f"images are {tuple(previous.shape)} and {tuple(next.shape)}; both must be (B, H, W)")
    dtype = torch.float64 if previous.dtype == torch.float64 else torch.float32
    previous, next = previous.to(dtype), next.to(dtype)
    if not (previous.isfinite().all() and next.isfinite().all()):
        raise ValueError("an image holds NaN or infinite values")
    if previous.numel() == 0:
        return previous.new_zeros(len(previous), 2, *previous.shape[1:])
    solve = _solve_level
    if previous.device.type == "cpu" and dtype == torch.float32:
        from lib.streams.flow import compiled  # Numba is loaded where it is used

        solve = compiled.solve_level
    elif previous.device.type == "cuda" and dtype == torch.float32 and _triton_runs():
        from lib.streams.flow import gpu

        solve = gpu.solve_level
    pyramid = [(previous, next)]
    while len(pyramid) < scales and min(pyramid[-1][0].shape[1:]) * scale_step >= _SMALLEST_LEVEL:
        pyramid.append((_shrink(pyramid[-1][0], scale_step), _shrink(pyramid[-1][1], scale_step)))
    u = previous.new_zeros(len(previous), 2, 1, 1)
    for previous, next in reversed(pyramid):
        u = _resize_flow(u, previous.shape[1:])
        u = solve(previous, next, _centred_gradient(next), u, lambda_, theta, tau, warps, iterations, epsilon, median)
    return u


@functools.cache
def _triton_runs() -> bool:
    """Tell, with a warning if not, whether Triton is there and what it makes its launcher from at its first use."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if find_spec("triton") and compiler and header.exists():
        return True
    warnings.warn(
        f"TV-L1 on the GPU runs as plain PyTorch, much slower: the fast kernel needs Triton, gcc or clang, and {header}",
        stacklevel=3,
    )
    return False


def _solve_level(
    previous: Tensor,
    next: Tensor,
    gradient: Tensor,
    u: Tensor,
    lambda_: float,
    theta: float,
    tau: float,
    warps: int,
    iterations: int,
    epsilon: float,
    median: bool,
) -> Tensor:
    horizontal, vertical = torch.zeros_like(u), torch.zeros_like(u)  # the dual variables of u's x and y derivatives
    limit, rate = lambda_ * theta, tau / theta
    images = torch.cat([next[:, None], gradient], 1)  # (B, 3, H, W)
    for _ in range(warps):
        if median:
            u = _median(u)
        warped, inside = _warp(images, u)
        gradient = torch.where(inside, warped[:, 1:], 0)
        constant = torch.where(inside[:, 0], warped[:, 0] - (gradient * u).sum(1) - previous, 0)
        inverse = 1 / (gradient.square().sum(1) + 1e-9)
        moving = torch.ones_like(u[:, :1, :1, :1], dtype=torch.bool)  # (B, 1, 1, 1)
        for _ in range(iterations):
            # the thresholding step v = u - rho grad / |grad|^2, limited to lambda theta |grad|
            step = (((gradient * u).sum(1) + constant) * inverse).clamp(-limit, limit)
            # u = v + theta div p
            change = theta * _divergence(horizontal, vertical) - step[:, None] * gradient
            u = torch.where(moving, u + change, u)
            # p = (p + tau/theta grad u) / (1 + tau/theta |grad u|); the last column's and row's derivatives are 0
            dx = functional.pad(u.diff(dim=3), (0, 1))
            dy = functional.pad(u.diff(dim=2), (0, 0, 0, 1))
            norm = 1 + rate * (dx.square() + dy.square()).sqrt()
            horizontal = torch.where(moving, (horizontal + rate * dx) / norm, horizontal)
            vertical = torch.where(moving, (vertical + rate * dy) / norm, vertical)
            moving = moving & (change.square().sum((1, 2, 3), keepdim=True) >= epsilon**2 * previous[0].numel())
            if not moving.any():
                break
    return u


def _divergence(horizontal: Tensor, vertical: Tensor) -> Tensor:
    """The negative adjoint of forward differences."""
    return horizontal - functional.pad(horizontal, (1, -1)) + vertical - functional.pad(vertical, (0, 0, 1, -1))


def _shrink(image: Tensor, step: float) -> Tensor:
    """(B, H, W) to (B, round(H step), round(W step)), bilinear, as in OpenCV's pyramid."""
    size = [max(1, round(length * step)) for length in image.shape[1:]]
    return functional.interpolate(image[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _resize_flow(u: Tensor, size: torch.Size) -> Tensor:
    """(B, 2, h, w) to (B, 2, H, W), vectors lengthened with the picture."""
    ratio = u.new_tensor([size[1] / u.shape[3], size[0] / u.shape[2]]).view(1, 2, 1, 1)
    return functional.interpolate(u, size, mode="bilinear", align_corners=False) * ratio


def _centred_gradient(image: Tensor) -> Tensor:
    """(B, H, W) to (B, 2, H, W): d/dx and d/dy by central differences, the border replicated."""
    padded = functional.pad(image[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return torch.stack([across, down], 1) / 2


def _warp(images: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Sample images (B, C, H, W) at x + u(x), bicubic; and tell where that lies inside them, (B, 1, H, W)."""
    height, width = u.shape[2:]
    x = torch.arange(width, device=u.device) + u[:, 0]
    y = torch.arange(height, device=u.device)[:, None] + u[:, 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    column, row = x.floor().clamp(0, width - 1), y.floor().clamp(0, height - 1)
    across, down = _cubic((x - column).clamp(0, 1)), _cubic((y - row).clamp(0, 1))
    flat = images.flatten(2)
    warped = torch.zeros_like(images)
    for j in range(4):
        for i in range(4):
            place = (row + (j - 1)).clamp(0, height - 1) * width + (column + (i - 1)).clamp(0, width - 1)
            taken = flat.gather(2, place.long().flatten(1)[:, None].expand(-1, images.shape[1], -1))
            warped += taken.view_as(images) * (down[j] * across[i])[:, None]
    return warped, inside[:, None]


def _cubic(t: Tensor) -> list[Tensor]:
    """Return the weights of the pixels at -1, 0, 1 and 2 for the place `t` in [0, 1]: exactly 0, 1, 0, 0 for t = 0."""
    a, s = _SHARPNESS, 1 - t
    return [a * t * s * s, 1 + t * t * ((a + 2) * t - (a + 3)), t * (t * (2 + a) * s + t - a * s), a * t * t * s]


def _median(u: Tensor) -> Tensor:
    """3 x 3 median of each component, by the exchange network of Devillard (1998, Fast median search)."""
    height, width = u.shape[2:]
    padded = functional.pad(u, (1, 1, 1, 1), mode="replicate")
    p = [padded[..., row : row + height, column : column + width] for row in range(3) for column in range(3)]
    for low, high in _MEDIAN_NETWORK:
        p[low], p[high] = torch.minimum(p[low], p[high]), torch.maximum(p[low], p[high])
    return p[4]


_MEDIAN_NETWORK = (
    (1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3),
    (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2),
)  # fmt: skip
