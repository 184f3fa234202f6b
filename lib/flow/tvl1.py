"""Dense TV-L1 optical flow of a batch of image pairs, in PyTorch, on whatever device the images are."""

import torch
from torch import Tensor
from torch.nn import functional

_CACHED_PAIRS = 16  # on a CPU: so many 112 x 112 pairs at a time stay in its caches
_SMALLEST_LEVEL = 8  # pixels; below it a pyramid level tells nothing


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
    median: bool,
) -> Tensor:
    """Return the flow (B, 2, H, W), x then y, in pixels, that carries `previous` to `next`: next(x + u(x)) = previous(x).

    Minimises lambda |next(x + u) - previous(x)| + |grad u1| + |grad u2| by the duality-based scheme of Zach, Pock and
    Bischof (2007, A duality based approach for realtime TV-L1 optical flow) with forward differences and warps from
    coarse to fine, as in Sánchez, Meinhardt-Llopis and Facciolo (2013, TV-L1 optical flow estimation, IPOL).

    previous, next: (B, H, W), uint8 or float, grey levels from 0 to 255.
    lambda_: weight of the data term. theta: tightness of the coupling of data and smoothness term.
    tau: time step of the dual ascent, stable up to 0.25.
    scales, scale_step: pyramid levels, the finest included, and the ratio of their sizes, in (0, 1).
    warps, iterations: linearisations a level, and iterations for each; their number is fixed, so that a pair's flow does
    not depend on the others in the batch.
    median: filter the flow by a 3 x 3 median before each warp, as Wedel et al. (2009) advise.

    Raises ValueError for images of other or different shapes, or with NaN or infinite values.
    """
    if previous.ndim != 3 or previous.shape != next.shape:
        raise ValueError(f"images are {tuple(previous.shape)} and {tuple(next.shape)}; both must be (B, H, W)")
    previous, next = previous.float(), next.float()
    if not (previous.isfinite().all() and next.isfinite().all()):
        raise ValueError("an image holds NaN or infinite values")
    flow = previous.new_zeros(len(previous), 2, *previous.shape[1:])
    size = _CACHED_PAIRS if previous.device.type == "cpu" else max(len(previous), 1)
    for start in range(0, len(previous), size):
        pyramid = [(previous[start : start + size], next[start : start + size])]
        while len(pyramid) < scales and min(pyramid[-1][0].shape[1:]) * scale_step >= _SMALLEST_LEVEL:
            pyramid.append((_shrink(pyramid[-1][0], scale_step), _shrink(pyramid[-1][1], scale_step)))
        u = torch.zeros_like(flow[start : start + size, :, :1, :1])
        for level in reversed(pyramid):
            u = _resize_flow(u, level[0].shape[1:])
            u = _solve_level(*level, u, lambda_, theta, tau, warps, iterations, median)
        flow[start : start + size] = u
    return flow


def _solve_level(
    previous: Tensor,
    next: Tensor,
    u: Tensor,
    lambda_: float,
    theta: float,
    tau: float,
    warps: int,
    iterations: int,
    median: bool,
) -> Tensor:
    horizontal = torch.zeros_like(u)  # the dual variables of u's x derivatives
    vertical = torch.zeros_like(u)
    dx, dy, step = torch.zeros_like(u), torch.zeros_like(u), torch.empty_like(u)
    limit, rate = lambda_ * theta, tau / theta
    images = torch.stack([next, *_centred_gradient(next)], 1)  # (B, 3, H, W)
    for _ in range(warps):
        if median:
            u = _median(u)
        warped = _warp(images, u)
        gradient = warped[:, 1:]
        constant = warped[:, 0] - (gradient * u).sum(1) - previous
        slope = gradient.square().sum(1, keepdim=True) + 1e-9  # |grad|^2, (B, 1, H, W)
        scaled, high, low = gradient / slope, limit * slope, -limit * slope
        for _ in range(iterations):
            residual = (gradient * u).sum(1).add_(constant).unsqueeze_(1)  # rho, (B, 1, H, W)
            # the thresholding step: v = u - rho grad / |grad|^2, limited to lambda theta |grad|
            u.sub_(torch.mul(scaled, torch.clamp(residual, low, high, out=residual), out=step))
            # u = v + theta div p
            u.add_(horizontal, alpha=theta).add_(vertical, alpha=theta)
            u[..., :, 1:].sub_(horizontal[..., :, :-1], alpha=theta)
            u[..., 1:, :].sub_(vertical[..., :-1, :], alpha=theta)
            # p = (p + tau/theta grad u) / (1 + tau/theta |grad u|); the last column's and row's derivatives stay 0
            torch.sub(u[..., :, 1:], u[..., :, :-1], out=dx[..., :, :-1])
            torch.sub(u[..., 1:, :], u[..., :-1, :], out=dy[..., :-1, :])
            norm = torch.mul(dx, dx, out=step).addcmul_(dy, dy).sqrt_().mul_(rate).add_(1)
            horizontal.add_(dx, alpha=rate).div_(norm)
            vertical.add_(dy, alpha=rate).div_(norm)
    return u


def _shrink(image: Tensor, step: float) -> Tensor:
    """Smooth and sample anew: (B, H, W) to (B, round(H step), round(W step))."""
    sigma = 0.6 * (step**-2 - 1) ** 0.5  # IPOL 2013, equation 17
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-(torch.arange(-radius, radius + 1, device=image.device) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    smooth = functional.pad(image[:, None], (radius,) * 4, mode="replicate")
    smooth = functional.conv2d(functional.conv2d(smooth, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    size = [max(1, round(length * step)) for length in image.shape[1:]]
    return functional.interpolate(smooth, size, mode="bilinear", align_corners=False)[:, 0]


def _resize_flow(u: Tensor, size: torch.Size) -> Tensor:
    """(B, 2, h, w) to (B, 2, H, W), vectors lengthened with the picture."""
    ratio = u.new_tensor([size[1] / u.shape[3], size[0] / u.shape[2]]).view(1, 2, 1, 1)
    return functional.interpolate(u, size, mode="bilinear", align_corners=False) * ratio


def _centred_gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(image[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2


def _warp(images: Tensor, u: Tensor) -> Tensor:
    """Sample (B, C, H, W) at x + u(x), bicubic, replicating the border."""
    height, width = u.shape[2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=u.device, dtype=u.dtype),
        torch.arange(width, device=u.device, dtype=u.dtype),
        indexing="ij",
    )
    grid = torch.stack([(x + u[:, 0]) * (2 / max(width - 1, 1)) - 1, (y + u[:, 1]) * (2 / max(height - 1, 1)) - 1], -1)
    return functional.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=True)


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
