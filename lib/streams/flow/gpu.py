"""A pyramid level of TV-L1 on an NVIDIA GPU, as one Triton kernel: a pair is one block of threads.

The same scheme as `lib.flow.tvl1._solve_level`, which is the reference. A level is one launch, whatever the number of
iterations; a pair that has converged frees its multiprocessor. An iteration moves 88 bytes a pixel between the
multiprocessor and the L2 cache (ten fields read and two written by the primal step, six and four by the dual one), which
is what bounds it; a field's neighbours come from the L1 cache. The first use on a machine compiles for some seconds.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024  # pixels that a pair's threads take at a time
_WARPS = 32  # of 32 threads
_FIELDS = 10  # u1, u2, p11, p12, p21, p22, gradient x and y, constant, 1 / |gradient|^2


def solve_level(
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
    """Return the flow (B, 2, H, W) that starts from `u`; images (B, H, W), `gradient` of `next` (B, 2, H, W); float32."""
    pairs, height, width = previous.shape
    state = previous.new_zeros(pairs, _FIELDS, height, width)
    state[:, :2] = u
    images = torch.cat([previous[:, None], next[:, None], gradient], 1).contiguous()  # (B, 4, H, W)
    enough = epsilon**2 * height * width
    with torch.cuda.device_of(state):
        _solve[(pairs,)](
            images, state, height, width, lambda_ * theta, theta, tau / theta, warps, iterations, enough,
            median=median, block=_BLOCK, num_warps=_WARPS, num_stages=1,
        )  # fmt: skip
    return state[:, :2].clone()


@triton.jit
def _solve(
    images,
    state,
    height: tl.constexpr,
    width: tl.constexpr,
    limit,
    theta,
    rate,
    warps: tl.constexpr,
    iterations,
    enough,
    median: tl.constexpr,
    block: tl.constexpr,
):
    pair = tl.program_id(0).to(tl.int64)
    size: tl.constexpr = height * width
    images += pair * 4 * size
    state += pair * 10 * size  # _FIELDS
    for _ in range(warps):
        if median:
            # the state's last fields are free until the linearisation
            for component in range(2):
                _median(state + component * size, state + (6 + component) * size, height, width, block)
            tl.debug_barrier()
            for start in range(0, 2 * size, block):
                i = start + tl.arange(0, block)
                tl.store(state + i, tl.load(state + 6 * size + i, mask=i < 2 * size), mask=i < 2 * size)
            tl.debug_barrier()
        _linearise(images, state, height, width, block)
        tl.debug_barrier()
        iteration = 0
        change = enough
        while (iteration < iterations) & (change >= enough):
            change = _primal(state, size, width, limit, theta, block)
            tl.debug_barrier()
            _dual(state, size, height, width, rate, block)
            tl.debug_barrier()
            iteration += 1


@triton.jit
def _primal(state, size: tl.constexpr, width: tl.constexpr, limit, theta, block: tl.constexpr):
    """The thresholding step v, then u = v + theta div p; return the sum of squares of u's change."""
    total = tl.zeros([block], tl.float32)
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        inside = i < size
        left = inside & (i % width > 0)
        above = inside & (i >= width)
        u1 = tl.load(state + i, mask=inside, other=0.0)
        u2 = tl.load(state + size + i, mask=inside, other=0.0)
        gx = tl.load(state + 6 * size + i, mask=inside, other=0.0)
        gy = tl.load(state + 7 * size + i, mask=inside, other=0.0)
        constant = tl.load(state + 8 * size + i, mask=inside, other=0.0)
        inverse = tl.load(state + 9 * size + i, mask=inside, other=0.0)
        step = tl.minimum(tl.maximum((constant + gx * u1 + gy * u2) * inverse, -limit), limit)
        p = state + 2 * size
        divergence1 = _here(p, i, inside) - _here(p, i - 1, left)
        divergence1 += _here(p + size, i, inside) - _here(p + size, i - width, above)
        p += 2 * size
        divergence2 = _here(p, i, inside) - _here(p, i - 1, left)
        divergence2 += _here(p + size, i, inside) - _here(p + size, i - width, above)
        change1 = theta * divergence1 - step * gx
        change2 = theta * divergence2 - step * gy
        tl.store(state + i, u1 + change1, mask=inside)
        tl.store(state + size + i, u2 + change2, mask=inside)
        total += change1 * change1 + change2 * change2
    return tl.sum(total)


@triton.jit
def _dual(state, size: tl.constexpr, height: tl.constexpr, width: tl.constexpr, rate, block: tl.constexpr):
    """p = (p + tau/theta grad u) / (1 + tau/theta |grad u|); derivatives across the last column and line are 0."""
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        inside = i < size
        right = inside & (i % width < width - 1)
        below = inside & (i < size - width)
        for component in range(2):
            u = state + component * size
            p = state + (2 + 2 * component) * size
            here = _here(u, i, inside)
            dx = tl.where(right, _here(u, i + 1, right) - here, 0.0)
            dy = tl.where(below, _here(u, i + width, below) - here, 0.0)
            norm = 1 + rate * tl.sqrt(dx * dx + dy * dy)
            tl.store(p + i, (_here(p, i, inside) + rate * dx) / norm, mask=inside)
            tl.store(p + size + i, (_here(p + size, i, inside) + rate * dy) / norm, mask=inside)


@triton.jit
def _here(field, i, mask):
    return tl.load(field + i, mask=mask, other=0.0)


@triton.jit
def _linearise(images, state, height: tl.constexpr, width: tl.constexpr, block: tl.constexpr):
    """Write the gradient of `next` at x + u, the constant of the linearised residual, and 1 / |gradient|^2."""
    size: tl.constexpr = height * width
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        here = i < size
        u1 = _here(state, i, here)
        u2 = _here(state + size, i, here)
        x = (i % width).to(tl.float32) + u1
        y = (i // width).to(tl.float32) + u2
        inside = here & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        x = tl.where(inside, x, 0.0)
        y = tl.where(inside, y, 0.0)
        column = x.to(tl.int32)
        row = y.to(tl.int32)
        value = tl.zeros([block], tl.float32)
        gx = tl.zeros([block], tl.float32)
        gy = tl.zeros([block], tl.float32)
        for j in range(4):
            line = tl.minimum(tl.maximum(row + j - 1, 0), height - 1) * width
            down = _cubic(y - row, j)
            for k in range(4):
                place = line + tl.minimum(tl.maximum(column + k - 1, 0), width - 1)
                weight = down * _cubic(x - column, k)
                value += weight * _here(images + size, place, inside)
                gx += weight * _here(images + 2 * size, place, inside)
                gy += weight * _here(images + 3 * size, place, inside)
        constant = tl.where(inside, value - gx * u1 - gy * u2 - _here(images, i, here), 0.0)
        tl.store(state + 6 * size + i, gx, mask=here)
        tl.store(state + 7 * size + i, gy, mask=here)
        tl.store(state + 8 * size + i, constant, mask=here)
        tl.store(state + 9 * size + i, 1 / (gx * gx + gy * gy + 1e-9), mask=here)


@triton.jit
def _cubic(t, tap):
    """The weight of pixel `tap` - 1 for the place t in [0, 1), by Keys (1981) with a = -0.75."""
    s = 1 - t
    near = 1 + t * t * (1.25 * t - 2.25)
    far = t * (t * 1.25 * s + t + 0.75 * s)
    return tl.where(tap == 0, -0.75 * t * s * s, tl.where(tap == 1, near, tl.where(tap == 2, far, -0.75 * t * t * s)))


@triton.jit
def _median(field, out, height: tl.constexpr, width: tl.constexpr, block: tl.constexpr):
    """Write the 3 x 3 median: columns sorted, then the median of the greatest low, the middle middle and the least high."""
    size: tl.constexpr = height * width
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        here = i < size
        x = i % width
        y = i // width
        above = tl.maximum(y - 1, 0) * width
        below = tl.minimum(y + 1, height - 1) * width
        left = tl.maximum(x - 1, 0)
        right = tl.minimum(x + 1, width - 1)
        low0, middle0, high0 = _sort(field, above + left, y * width + left, below + left, here)
        low1, middle1, high1 = _sort(field, above + x, i, below + x, here)
        low2, middle2, high2 = _sort(field, above + right, y * width + right, below + right, here)
        low = tl.maximum(tl.maximum(low0, low1), low2)
        high = tl.minimum(tl.minimum(high0, high1), high2)
        middle = tl.maximum(tl.minimum(middle0, middle1), tl.minimum(tl.maximum(middle0, middle1), middle2))
        tl.store(out + i, tl.maximum(tl.minimum(low, middle), tl.minimum(tl.maximum(low, middle), high)), mask=here)


@triton.jit
def _sort(field, first, second, third, mask):
    a = _here(field, first, mask)
    b = _here(field, second, mask)
    c = _here(field, third, mask)
    low = tl.minimum(a, b)
    high = tl.maximum(a, b)
    return tl.minimum(low, c), tl.maximum(low, tl.minimum(high, c)), tl.maximum(high, c)
