"""Dense TV-L1 optical flow of a batch of image pairs, on the device of the images.

`compiled` solves it on a CPU, and `gpu` its pyramid levels on a GPU if Triton is installed. The PyTorch code here is their
reference and runs on all other devices.
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

from lib.streams.flow.solver import SMALLEST_LEVEL, Solver

_EDGE = 1e-3  # pixels; tolerance for positions outside an image, so that the result does not depend on rounding


@torch.no_grad()
def tvl1(previous: Tensor, next: Tensor, solver: Solver) -> Tensor:
    """Return the flow (B, 2, H, W), x then y, in pixels, that carries `previous` to `next`: next(x + u(x)) = previous(x).

    Minimises lambda |next(x + v) - previous(x)| + |u - v|^2 / (2 theta) + |grad u1| + |grad u2| over u and v, the functional
    of Zach, Pock and Bischof (2007, A duality based approach for realtime TV-L1 optical flow), with forward differences and
    warps from coarse to fine, as in Sánchez, Meinhardt-Llopis and Facciolo (2013, TV-L1 optical flow estimation, IPOL); but
    by the primal-dual scheme of Chambolle and Pock (2011, A first-order primal-dual algorithm for convex problems with
    applications to imaging, algorithm 1), which needs fewer iterations than alternating between u and v. Images are
    interpolated bicubically (Keys 1981, Cubic convolution interpolation, a = -1/2), their central differences bilinearly.

    Where x + u(x) lies outside the image, the data term is 0 and the flow is continued smoothly.

    previous, next: (B, H, W), uint8 or float, grey levels from 0 to 255. float64 images are computed in float64, slowly; all
    others in float32.

    Raises ValueError for images of wrong or different shapes, and for NaN or infinite values.
    """
    if previous.ndim != 3 or previous.shape != next.shape:
        raise ValueError(f"images are {tuple(previous.shape)} and {tuple(next.shape)}; both must be (B, H, W)")
    dtype = torch.float64 if previous.dtype == torch.float64 else torch.float32
    previous, next = previous.to(dtype), next.to(dtype)
    if not (previous.isfinite().all() and next.isfinite().all()):
        raise ValueError("an image contains NaN or infinite values; allowed: finite grey levels")
    if previous.numel() == 0:
        return previous.new_zeros(len(previous), 2, *previous.shape[1:])
    solve = _solve_level
    if previous.device.type == "cpu" and dtype == torch.float32:
        from lib.streams.flow import compiled  # imported here, because Numba loads slowly

        return torch.from_numpy(compiled.solve(previous.numpy(), next.numpy(), solver, torch.get_num_threads()))
    if previous.device.type == "cuda" and dtype == torch.float32 and _triton_runs():
        from lib.streams.flow import gpu

        solve = gpu.solve_level
    pyramid = [(previous, next)]
    while len(pyramid) < solver.scales and min(pyramid[-1][0].shape[1:]) * solver.scale_step >= SMALLEST_LEVEL:
        pyramid.append((_shrink(pyramid[-1][0], solver.scale_step), _shrink(pyramid[-1][1], solver.scale_step)))
    u = previous.new_zeros(len(previous), 2, 1, 1)
    for previous, next in reversed(pyramid):
        u = _resize_flow(u, previous.shape[1:])
        u = solve(previous, next, u, solver)
    return u


@functools.cache
def _triton_runs() -> bool:
    """Return whether Triton and the compiler and header that it needs are installed; warn if not."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if find_spec("triton") and compiler and header.exists():
        return True
    warnings.warn(
        f"TV-L1 on the GPU runs as plain PyTorch, which is much slower; for the fast kernel install Triton, gcc or clang,"
        f" and {header}",
        stacklevel=3,
    )
    return False


def _solve_level(previous: Tensor, next: Tensor, u: Tensor, solver: Solver) -> Tensor:
    horizontal, vertical = torch.zeros_like(u), torch.zeros_like(u)  # p, the dual variables of u's x and y derivatives
    tau = solver.tau
    limit, coupling = solver.lambda_ * tau, tau / (tau + solver.theta)
    sigma = 1 / (8 * tau)  # 8 bounds the squared norm of forward differences
    for _ in range(solver.warps):
        if solver.median:
            u = _median(u)
        warped, gradient, inside = _warp(next, u)
        gradient = torch.where(inside[:, None], gradient, 0)
        constant = torch.where(inside, warped - previous, 0) - (gradient * u).sum(1)
        inverse = coupling / (gradient.square().sum(1) + 1e-9)
        moving = torch.ones_like(u[:, :1, :1, :1], dtype=torch.bool)  # (B, 1, 1, 1)
        for _ in range(solver.iterations):
            # proximal step of the data term from u + tau div p: minus rho grad / |grad|^2, at most lambda tau |grad|
            change = tau * _divergence(horizontal, vertical)
            step = (((gradient * (u + change)).sum(1) + constant) * inverse).clamp(-limit, limit)
            change = torch.where(moving, change - step[:, None] * gradient, 0)
            u = u + change
            # p + sigma grad v with v = u extrapolated, projected to length 1; derivatives at the last column and row are 0
            v = u + change
            across = horizontal + sigma * functional.pad(v.diff(dim=3), (0, 1))
            down = vertical + sigma * functional.pad(v.diff(dim=2), (0, 0, 0, 1))
            length = (across.square() + down.square()).sqrt().clamp(min=1)
            horizontal = torch.where(moving, across / length, horizontal)
            vertical = torch.where(moving, down / length, vertical)
            moving = moving & (change.square().sum((1, 2, 3), keepdim=True) >= solver.epsilon**2 * previous[0].numel())
            if not moving.any():
                break
    return u


def _divergence(horizontal: Tensor, vertical: Tensor) -> Tensor:
    """Return the divergence, the negative adjoint of forward differences."""
    return horizontal - functional.pad(horizontal, (1, -1)) + vertical - functional.pad(vertical, (0, 0, 1, -1))


def _shrink(image: Tensor, step: float) -> Tensor:
    """Return images (B, H, W) scaled to (B, round(H step), round(W step)), bilinearly as in OpenCV's pyramid."""
    size = [max(1, round(length * step)) for length in image.shape[1:]]
    return functional.interpolate(image[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _resize_flow(u: Tensor, size: torch.Size) -> Tensor:
    """Return flow (B, 2, h, w) scaled to (B, 2, H, W), with vectors scaled by the same factors."""
    ratio = u.new_tensor([size[1] / u.shape[3], size[0] / u.shape[2]]).view(1, 2, 1, 1)
    return functional.interpolate(u, size, mode="bilinear", align_corners=False) * ratio


def _warp(image: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return samples of `image` (B, H, W) at x + u(x), its gradient there, and whether x + u(x) lies inside.

    Values are interpolated bicubically. The gradient (B, 2, H, W) consists of central differences, interpolated bilinearly,
    because the derivative of the bicubic interpolation would follow the noise.
    """
    height, width = u.shape[2:]
    x = torch.arange(width, device=u.device) + u[:, 0]
    y = torch.arange(height, device=u.device)[:, None] + u[:, 1]
    near_x, near_y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    inside = ((near_x - x).abs() < _EDGE) & ((near_y - y).abs() < _EDGE)
    column, row = near_x.floor(), near_y.floor()
    cubic_x, linear_x, difference_x = (weights(near_x - column) for weights in (_cubic, _linear, _difference))
    cubic_y, linear_y, difference_y = (weights(near_y - row) for weights in (_cubic, _linear, _difference))
    value, dx, dy = torch.zeros_like(image), torch.zeros_like(image), torch.zeros_like(image)
    for j in range(4):
        for i in range(4):
            place = (row + (j - 1)).clamp(0, height - 1) * width + (column + (i - 1)).clamp(0, width - 1)
            taken = image.flatten(1).gather(1, place.long().flatten(1)).view_as(image)
            value += cubic_y[j] * cubic_x[i] * taken
            dx += linear_y[j] * difference_x[i] * taken
            dy += difference_y[j] * linear_x[i] * taken
    return value, torch.stack([dx, dy], 1), inside


def _cubic(t: Tensor) -> list[Tensor]:
    """Return the weights of the pixels at -1, 0, 1 and 2 for position `t` in [0, 1]; exactly 0, 1, 0, 0 for t = 0."""
    s = 1 - t
    return [-t * s * s / 2, 1 + t * t * (1.5 * t - 2.5), t * (s + t * (2 + 3 * s)) / 2, -t * t * s / 2]


def _linear(t: Tensor) -> list[Tensor]:
    """Return the same pixels' weights for a linear interpolation."""
    return [torch.zeros_like(t), 1 - t, t, torch.zeros_like(t)]


def _difference(t: Tensor) -> list[Tensor]:
    """Return the same pixels' weights in the central differences of the inner two, interpolated linearly."""
    return [(t - 1) / 2, -t / 2, (1 - t) / 2, t / 2]


def _median(u: Tensor) -> Tensor:
    """Return the 3 x 3 median of each component, by the exchange network of Devillard (1998, Fast median search)."""
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
