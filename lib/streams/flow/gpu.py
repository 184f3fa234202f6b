"""A pyramid level of TV-L1 on an NVIDIA GPU, as one Triton kernel with one block of threads per pair.

The algorithm is that of `lib.streams.flow.tvl1._solve_level`, which is the reference. A level is one launch for any number
of iterations, and a converged pair frees its multiprocessor. Speed is limited by the transfer between multiprocessor and L2
cache: 96 bytes per pixel and iteration (the primal step reads ten fields and writes four, the dual step reads six and writes
four). Neighbours come from the L1 cache. The first use on a machine compiles for some seconds.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lib.streams.flow.solver import Solver

_BLOCK = 2048  # pixels per step of a pair's threads; 6 % faster than 1024 on an H200
_WARPS = 32  # of 32 threads
_FIELDS = 12  # u1, u2, v1, v2, p11, p12, p21, p22, gradient x and y, constant, coupling / |gradient|^2


def solve_level(previous: Tensor, next: Tensor, u: Tensor, solver: Solver) -> Tensor:
    """Return the flow (B, 2, H, W) of images (B, H, W), starting from `u`; all float32."""
    pairs, height, width = previous.shape
    state = previous.new_zeros(pairs, _FIELDS, height, width)
    state[:, :2] = u
    images = torch.stack([previous, next], 1)  # (B, 2, H, W)
    tau, enough = solver.tau, solver.epsilon**2 * height * width
    with torch.cuda.device_of(state):
        scheme = solver.lambda_ * tau, tau / (tau + solver.theta), tau, 1 / (8 * tau), solver.iterations, enough
        _solve[(pairs,)](
            images, state, scheme, height, width, warps=solver.warps, median=solver.median, block=_BLOCK,
            num_warps=_WARPS, num_stages=1,
        )  # fmt: skip
    return state[:, :2].clone()


@triton.jit
def _solve(
    images,
    state,
    scheme,
    height: tl.constexpr,
    width: tl.constexpr,
    warps: tl.constexpr,
    median: tl.constexpr,
    block: tl.constexpr,
):
    limit, coupling, tau, sigma, iterations, enough = scheme
    pair = tl.program_id(0).to(tl.int64)
    size: tl.constexpr = height * width
    images += pair * 2 * size
    state += pair * 12 * size  # _FIELDS
    for _ in range(warps):
        if median:
            # the last fields of the state are not in use before the linearisation
            for component in range(2):
                _median(state + component * size, state + (8 + component) * size, height, width, block)
            tl.debug_barrier()
            for start in range(0, 2 * size, block):
                i = start + tl.arange(0, block)
                tl.store(state + i, tl.load(state + 8 * size + i, mask=i < 2 * size), mask=i < 2 * size)
            tl.debug_barrier()
        _linearise(images, state, height, width, coupling, block)
        tl.debug_barrier()
        iteration = 0
        change = enough
        while (iteration < iterations) & (change >= enough):
            change = _primal(state, size, width, limit, tau, block)
            tl.debug_barrier()
            _dual(state, size, width, sigma, block)
            tl.debug_barrier()
            iteration += 1


@triton.jit
def _primal(state, size: tl.constexpr, width: tl.constexpr, limit, tau, block: tl.constexpr):
    """Set u to u + tau div p, thresholded, and v to u plus the change of u; return the sum of squares of the change."""
    total = tl.zeros([block], tl.float32)
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        inside = i < size
        has_left = inside & (i % width > 0)
        has_above = inside & (i >= width)
        u1 = _here(state, i, inside)
        u2 = _here(state + size, i, inside)
        gx = _here(state + 8 * size, i, inside)
        gy = _here(state + 9 * size, i, inside)
        constant = _here(state + 10 * size, i, inside)
        inverse = _here(state + 11 * size, i, inside)
        p = state + 4 * size
        divergence1 = _here(p, i, inside) - _here(p, i - 1, has_left)
        divergence1 += _here(p + size, i, inside) - _here(p + size, i - width, has_above)
        p += 2 * size
        divergence2 = _here(p, i, inside) - _here(p, i - 1, has_left)
        divergence2 += _here(p + size, i, inside) - _here(p + size, i - width, has_above)
        change1 = tau * divergence1
        change2 = tau * divergence2
        step = (constant + gx * (u1 + change1) + gy * (u2 + change2)) * inverse
        step = tl.minimum(tl.maximum(step, -limit), limit)
        change1 -= step * gx
        change2 -= step * gy
        tl.store(state + i, u1 + change1, mask=inside)
        tl.store(state + size + i, u2 + change2, mask=inside)
        tl.store(state + 2 * size + i, u1 + 2 * change1, mask=inside)
        tl.store(state + 3 * size + i, u2 + 2 * change2, mask=inside)
        total += change1 * change1 + change2 * change2
    return tl.sum(total)


@triton.jit
def _dual(state, size: tl.constexpr, width: tl.constexpr, sigma, block: tl.constexpr):
    """Set p to p + sigma grad v, projected to vectors of length at most 1; derivatives at the last column and line are 0."""
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        inside = i < size
        right = inside & (i % width < width - 1)
        has_below = inside & (i < size - width)
        for component in range(2):
            v = state + (2 + component) * size
            p = state + (4 + 2 * component) * size
            v_here = _here(v, i, inside)
            x = _here(p, i, inside) + sigma * tl.where(right, _here(v, i + 1, right) - v_here, 0.0)
            y = _here(p + size, i, inside) + sigma * tl.where(has_below, _here(v, i + width, has_below) - v_here, 0.0)
            ratio = tl.rsqrt(tl.maximum(1.0, x * x + y * y))
            tl.store(p + i, x * ratio, mask=inside)
            tl.store(p + size + i, y * ratio, mask=inside)


@triton.jit
def _here(field, i, mask):
    return tl.load(field + i, mask=mask, other=0.0)


@triton.jit
def _linearise(images, state, height: tl.constexpr, width: tl.constexpr, coupling, block: tl.constexpr):
    """Write the gradient of `next` at x + u, the constant of the linearised residual, and coupling / |gradient|^2."""
    size: tl.constexpr = height * width
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        is_pixel = i < size
        u1 = _here(state, i, is_pixel)
        u2 = _here(state + size, i, is_pixel)
        x = (i % width).to(tl.float32) + u1
        y = (i // width).to(tl.float32) + u2
        near_x = tl.minimum(tl.maximum(x, 0.0), width - 1.0)
        near_y = tl.minimum(tl.maximum(y, 0.0), height - 1.0)
        inside = is_pixel & (tl.abs(near_x - x) < 1e-3) & (tl.abs(near_y - y) < 1e-3)
        column = near_x.to(tl.int32)
        row = near_y.to(tl.int32)
        value = tl.zeros([block], tl.float32)
        gx = tl.zeros([block], tl.float32)
        gy = tl.zeros([block], tl.float32)
        for j in range(4):
            line = tl.minimum(tl.maximum(row + j - 1, 0), height - 1) * width
            for k in range(4):
                place = line + tl.minimum(tl.maximum(column + k - 1, 0), width - 1)
                taken = _here(images + size, place, inside)
                value += _cubic(near_y - row, j) * _cubic(near_x - column, k) * taken
                gx += _linear(near_y - row, j) * _difference(near_x - column, k) * taken
                gy += _difference(near_y - row, j) * _linear(near_x - column, k) * taken
        constant = tl.where(inside, value - gx * u1 - gy * u2 - _here(images, i, is_pixel), 0.0)
        tl.store(state + 8 * size + i, gx, mask=is_pixel)
        tl.store(state + 9 * size + i, gy, mask=is_pixel)
        tl.store(state + 10 * size + i, constant, mask=is_pixel)
        tl.store(state + 11 * size + i, coupling / (gx * gx + gy * gy + 1e-9), mask=is_pixel)


@triton.jit
def _cubic(t, tap):
    """Return the weight of pixel `tap` - 1 for position t in [0, 1], by Keys (1981) with a = -1/2."""
    s = 1 - t
    near = 1 + t * t * (1.5 * t - 2.5)
    far = t * (s + t * (2 + 3 * s)) / 2
    return tl.where(tap == 0, -t * s * s / 2, tl.where(tap == 1, near, tl.where(tap == 2, far, -t * t * s / 2)))


@triton.jit
def _linear(t, tap):
    """Return the weight of pixel `tap` - 1 in the linear interpolation at t in [0, 1] between pixels 0 and 1."""
    return tl.where(tap == 1, 1 - t, tl.where(tap == 2, t, 0.0))


@triton.jit
def _difference(t, tap):
    """Return the weight of pixel `tap` - 1 in the linearly interpolated central differences of pixels 0 and 1."""
    return tl.where(tap == 0, t - 1, tl.where(tap == 1, -t, tl.where(tap == 2, 1 - t, t))) / 2


@triton.jit
def _median(field, out, height: tl.constexpr, width: tl.constexpr, block: tl.constexpr):
    """Write the 3 x 3 median to `out`, by the algorithm of `compiled._median`."""
    size: tl.constexpr = height * width
    for start in range(0, size, block):
        i = start + tl.arange(0, block)
        is_pixel = i < size
        x = i % width
        y = i // width
        row_above = tl.maximum(y - 1, 0) * width
        row_below = tl.minimum(y + 1, height - 1) * width
        column_left = tl.maximum(x - 1, 0)
        column_right = tl.minimum(x + 1, width - 1)
        low0, middle0, high0 = _sort(
            field, row_above + column_left, y * width + column_left, row_below + column_left, is_pixel
        )
        low1, middle1, high1 = _sort(field, row_above + x, i, row_below + x, is_pixel)
        low2, middle2, high2 = _sort(
            field, row_above + column_right, y * width + column_right, row_below + column_right, is_pixel
        )
        low = tl.maximum(tl.maximum(low0, low1), low2)
        high = tl.minimum(tl.minimum(high0, high1), high2)
        middle = tl.maximum(tl.minimum(middle0, middle1), tl.minimum(tl.maximum(middle0, middle1), middle2))
        tl.store(out + i, tl.maximum(tl.minimum(low, middle), tl.minimum(tl.maximum(low, middle), high)), mask=is_pixel)


@triton.jit
def _sort(field, first, second, third, mask):
    a = _here(field, first, mask)
    b = _here(field, second, mask)
    c = _here(field, third, mask)
    low = tl.minimum(a, b)
    high = tl.maximum(a, b)
    return tl.minimum(low, c), tl.maximum(low, tl.minimum(high, c)), tl.maximum(high, c)
