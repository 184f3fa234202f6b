"""TV-L1 on the CPU, compiled by Numba. Pairs are solved one by one, so that each fits a core's cache.

The algorithm is that of `lib.streams.flow.tvl1`, which is the reference. PyTorch is not needed. Numba needs no
other compiler and caches compiled code in `__pycache__`; the first use on a machine takes some seconds longer.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
from numba import njit

from lib.streams.flow.solver import SMALLEST_LEVEL, Solver

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
    "fastmath": True,
}
_FIELDS = 12  # u1, u2, v1, v2, p11, p12, p21, p22, gradient x and y, constant, coupling / |gradient|^2
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_TINY, _EDGE = np.float32(1e-9), np.float32(1e-3)
_MARGIN = 1, 2, 1, 2  # padding in pixels (left, right, top, bottom) for bicubic interpolation
_Fields = tuple[np.ndarray, ...]


class _Scheme(NamedTuple):
    """The constants of a level, in the types that the compiled functions take."""

    limit: np.float32
    coupling: np.float32
    tau: np.float32
    sigma: np.float32
    epsilon: np.float32
    warps: int
    iterations: int
    median: bool


def solve(previous: np.ndarray, next: np.ndarray, solver: Solver, threads: int) -> np.ndarray:
    """Return the flow (B, 2, H, W) of images (B, H, W), as `lib.streams.flow.tvl1.tvl1` does; float32.

    Pairs are distributed over `threads` threads.
    """
    pyramid = [(previous.astype(np.float32), next.astype(np.float32))]
    while len(pyramid) < solver.scales and min(pyramid[-1][0].shape[1:]) * solver.scale_step >= SMALLEST_LEVEL:
        size = [max(1, round(length * solver.scale_step)) for length in pyramid[-1][0].shape[1:]]
        pyramid.append((_resize(pyramid[-1][0], size), _resize(pyramid[-1][1], size)))
    flow = np.zeros((len(previous), 2, *pyramid[-1][0].shape[1:]), np.float32)
    for first, second in reversed(pyramid):
        height, width = first.shape[1:]
        ratio = np.array([width / flow.shape[3], height / flow.shape[2]], np.float32)
        flow = _resize(flow.reshape(-1, *flow.shape[2:]), [height, width]).reshape(len(previous), 2, height, width)
        flow = np.ascontiguousarray(flow * ratio[:, None, None])
        _solve_level(first, second, flow, solver, threads)
    return flow


def _resize(images: np.ndarray, size: list[int]) -> np.ndarray:
    """Return images (B, H, W) scaled bilinearly."""
    return np.stack([cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR) for image in images])


def _solve_level(previous: np.ndarray, next: np.ndarray, flow: np.ndarray, solver: Solver, threads: int) -> None:
    """Solve a pyramid level, starting from `flow` (B, 2, H, W), which is changed in place."""
    columns, rows = _MARGIN[:2], _MARGIN[2:]
    padded = np.pad(next, ((0, 0), rows, columns), mode="edge").reshape(len(next), -1)
    images = np.ascontiguousarray(previous), padded, flow
    tau = solver.tau
    scheme = _Scheme(
        limit=np.float32(solver.lambda_ * tau),
        coupling=np.float32(tau / (tau + solver.theta)),
        tau=np.float32(tau),
        sigma=np.float32(1 / (8 * tau)),
        epsilon=np.float32(solver.epsilon),
        warps=solver.warps,
        iterations=solver.iterations,
        median=solver.median,
    )
    count = min(threads, len(flow))
    parts = 8 * count if count > 1 else 1
    if parts == 1:
        _solve_pairs(*images, 0, 1, scheme)
    else:
        with ThreadPoolExecutor(count) as executor:
            list(executor.map(lambda first: _solve_pairs(*images, first, parts, scheme), range(parts)))


@njit(**_OPTIONS)
def _solve_pairs(
    previous: np.ndarray, padded: np.ndarray, flow: np.ndarray, first: int, step: int, scheme: _Scheme
) -> None:
    """Solve every `step`-th pair from `first` on. One call solves several pairs, because a call takes microseconds."""
    for pair in range(first, len(flow), step):
        _solve(previous[pair], padded[pair], flow[pair], scheme)


@njit(**_OPTIONS)
def _solve(previous: np.ndarray, padded: np.ndarray, flow: np.ndarray, scheme: _Scheme) -> None:
    """Solve for `flow` (2, H, W), which is changed in place."""
    height, width = previous.shape
    # Each field is one row of memory: an empty line, the image's lines and an empty line, with an empty pixel after each
    # line. So a field is updated by one plain loop, which the compiler turns into vector instructions.
    stride = width + 1
    first, last = stride, (height + 1) * stride
    state = np.zeros((_FIELDS, last + stride), np.float32)
    u1, u2 = state[0, first:last].reshape(height, stride), state[1, first:last].reshape(height, stride)
    u1[:, :width] = flow[0]
    u2[:, :width] = flow[1]
    data = state[8, first:last], state[9, first:last], state[10, first:last], state[11, first:last]
    for _ in range(scheme.warps):
        if scheme.median:
            _median(u1, flow[0])
            _median(u2, flow[1])
            u1[:, :width] = flow[0]
            u2[:, :width] = flow[1]
        _linearise(previous, padded, (u1, u2), data, scheme.coupling)
        _iterate(state, height, width, scheme)
    flow[0] = u1[:, :width]
    flow[1] = u2[:, :width]


@njit(**_OPTIONS)
def _iterate(state: np.ndarray, height: int, width: int, scheme: _Scheme) -> None:
    stride = width + 1
    first, last = stride, (height + 1) * stride
    inside, to_right, to_left = slice(first, last), slice(first + 1, last + 1), slice(first - 1, last - 1)
    row_below, row_above = slice(first + stride, last + stride), slice(first - stride, last - stride)
    v1, v2 = state[2], state[3]
    p11, p12, p21, p22 = state[4], state[5], state[6], state[7]
    u, v = (state[0, inside], state[1, inside]), (v1[inside], v2[inside])
    v_right, v_below = (v1[to_right], v2[to_right]), (v1[row_below], v2[row_below])
    p, p_before = (
        (p11[inside], p12[inside], p21[inside], p22[inside]),
        (p11[to_left], p12[row_above], p21[to_left], p22[row_above]),
    )
    data = state[8, inside], state[9, inside], state[10, inside], state[11, inside]
    enough = scheme.epsilon * scheme.epsilon * np.float32(height * width)
    for _ in range(scheme.iterations):
        change = _primal(u, v, p, p_before, data, scheme)
        for end in range(first + width, last, stride):  # repeat the last column and line: derivatives across them are 0
            v1[end], v2[end] = v1[end - 1], v2[end - 1]
        for below_last in range(last, last + width):
            v1[below_last], v2[below_last] = v1[below_last - stride], v2[below_last - stride]
        _dual(v, v_right, v_below, p, scheme.sigma)
        for end in range(first + width, last, stride):
            p11[end], p12[end], p21[end], p22[end] = _ZERO, _ZERO, _ZERO, _ZERO
        if change < enough:
            break


@njit(**_OPTIONS)
def _primal(u: _Fields, v: _Fields, p: _Fields, p_before: _Fields, data: _Fields, scheme: _Scheme) -> np.float32:
    """Set u to u + tau div p, thresholded, and v to u plus the change of u; return the sum of squares of the change.

    p_before: p of the pixel to the left or above, in the direction of each component's derivative. data: the gradient,
    the constant of the linearised residual, and coupling / |gradient|^2.
    """
    (u1, u2), (v1, v2), (gx, gy, constant, inverse) = u, v, data
    p11, p12, p21, p22 = p
    p11_left, p12_above, p21_left, p22_above = p_before
    tau, limit = scheme.tau, scheme.limit
    change = _ZERO
    for i in range(len(u1)):
        change1 = tau * (p11[i] - p11_left[i] + p12[i] - p12_above[i])
        change2 = tau * (p21[i] - p21_left[i] + p22[i] - p22_above[i])
        step = (constant[i] + gx[i] * (u1[i] + change1) + gy[i] * (u2[i] + change2)) * inverse[i]
        step = min(max(step, -limit), limit)
        change1 -= step * gx[i]
        change2 -= step * gy[i]
        u1[i] += change1
        u2[i] += change2
        v1[i] = u1[i] + change1
        v2[i] = u2[i] + change2
        change += change1 * change1 + change2 * change2
    return change


@njit(**_OPTIONS)
def _dual(v: _Fields, v_right: _Fields, v_below: _Fields, p: _Fields, sigma: np.float32) -> None:
    """Set p to p + sigma grad v, projected to vectors of length at most 1."""
    (v1, v2), (v1_right, v2_right), (v1_below, v2_below) = v, v_right, v_below
    p11, p12, p21, p22 = p
    for i in range(len(v1)):
        x1, y1 = p11[i] + sigma * (v1_right[i] - v1[i]), p12[i] + sigma * (v1_below[i] - v1[i])
        x2, y2 = p21[i] + sigma * (v2_right[i] - v2[i]), p22[i] + sigma * (v2_below[i] - v2[i])
        ratio1 = _ONE / math.sqrt(max(_ONE, x1 * x1 + y1 * y1))
        ratio2 = _ONE / math.sqrt(max(_ONE, x2 * x2 + y2 * y2))
        p11[i], p12[i] = x1 * ratio1, y1 * ratio1
        p21[i], p22[i] = x2 * ratio2, y2 * ratio2


@njit(**_OPTIONS)
def _linearise(previous: np.ndarray, padded: np.ndarray, u: _Fields, data: _Fields, coupling: np.float32) -> None:
    """Write the gradient of the next image at x + u, the constant of the linearised residual, and coupling / |gradient|^2
    to `data`.

    padded: the next image with a margin, flattened. Each line is processed in three loops: the positions of its pixels,
    their 16 neighbours (the only loop without vector instructions), and the interpolation.
    """
    (u1, u2), (gx, gy, constant, inverse) = u, data
    height, width = previous.shape
    stride = np.int32(width + _MARGIN[0] + _MARGIN[1])
    right, bottom = np.float32(width) - _ONE, np.float32(height) - _ONE
    place, inside = np.empty(width, np.int32), np.empty(width, np.float32)
    across, down = np.empty(width, np.float32), np.empty(width, np.float32)
    near = np.empty((16, width), np.float32)
    a0, a1, a2, a3, b0, b1, b2, b3 = near[0], near[1], near[2], near[3], near[4], near[5], near[6], near[7]
    c0, c1, c2, c3, d0, d1, d2, d3 = near[8], near[9], near[10], near[11], near[12], near[13], near[14], near[15]
    for y in range(height):
        flow1, flow2, earlier = u1[y], u2[y], previous[y]
        line = slice(y * (width + 1), y * (width + 1) + width)
        line_gx, line_gy, line_constant, line_inverse = gx[line], gy[line], constant[line], inverse[line]
        for x in range(width):
            far_x, far_y = np.float32(x) + flow1[x], np.float32(y) + flow2[x]
            near_x, near_y = min(max(far_x, _ZERO), right), min(max(far_y, _ZERO), bottom)
            inside[x] = _ONE if max(abs(near_x - far_x), abs(near_y - far_y)) < _EDGE else _ZERO
            column, row = np.int32(near_x), np.int32(near_y)
            across[x], down[x] = near_x - np.float32(column), near_y - np.float32(row)
            place[x] = row * stride + column
        _gather(padded, place, stride, near)
        for x in range(width):
            tx, ty = across[x], down[x]
            h0, h1, h2, h3 = _cubic(ty)
            w0, w1, w2, w3 = _cubic(tx)
            value = (
                h0 * (w0 * a0[x] + w1 * a1[x] + w2 * a2[x] + w3 * a3[x])
                + h1 * (w0 * b0[x] + w1 * b1[x] + w2 * b2[x] + w3 * b3[x])
                + h2 * (w0 * c0[x] + w1 * c1[x] + w2 * c2[x] + w3 * c3[x])
                + h3 * (w0 * d0[x] + w1 * d1[x] + w2 * d2[x] + w3 * d3[x])
            )
            sx, sy, half = _ONE - tx, _ONE - ty, _HALF * inside[x]
            slope_x = half * (
                sy * (sx * (b2[x] - b0[x]) + tx * (b3[x] - b1[x])) + ty * (sx * (c2[x] - c0[x]) + tx * (c3[x] - c1[x]))
            )
            slope_y = half * (
                sx * (sy * (c1[x] - a1[x]) + ty * (d1[x] - b1[x])) + tx * (sy * (c2[x] - a2[x]) + ty * (d2[x] - b2[x]))
            )
            line_gx[x], line_gy[x] = slope_x, slope_y
            line_constant[x] = inside[x] * (value - earlier[x]) - slope_x * flow1[x] - slope_y * flow2[x]
            line_inverse[x] = coupling / (slope_x * slope_x + slope_y * slope_y + _TINY)


@njit(**_OPTIONS)
def _gather(padded: np.ndarray, place: np.ndarray, stride: np.int32, near: np.ndarray) -> None:
    """Write the 4 x 4 pixels whose first is at each `place` to `near` (16, W)."""
    for x in range(len(place)):
        position = np.uint64(place[x])  # unsigned, because Numba tests a signed index for negative values
        for j in range(4):
            for i in range(4):
                near[4 * j + i, x] = padded[position + np.uint64(i)]
            position += np.uint64(stride)


@njit(**_OPTIONS)
def _cubic(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the weights of the pixels at -1, 0, 1 and 2 for position `t` in [0, 1]; exactly 0, 1, 0, 0 for t = 0."""
    s = _ONE - t
    return (
        -_HALF * t * s * s,
        _ONE + t * t * (np.float32(1.5) * t - np.float32(2.5)),
        _HALF * t * (s + t * (np.float32(2) + np.float32(3) * s)),
        -_HALF * t * t * s,
    )


@njit(**_OPTIONS)
def _median(image: np.ndarray, out: np.ndarray) -> None:
    """Write the 3 x 3 median of `image` (H, W or wider) to `out` (H, W).

    Each column of three pixels is sorted. The median of nine is the median of the largest low value, the median of the
    middle values, and the smallest high value.
    """
    height, width = out.shape
    sorted = np.empty((3, width + 2), np.float32)
    low, middle, high = sorted[0, 1:-1], sorted[1, 1:-1], sorted[2, 1:-1]
    low0, middle0, high0 = sorted[0, :-2], sorted[1, :-2], sorted[2, :-2]
    low2, middle2, high2 = sorted[0, 2:], sorted[1, 2:], sorted[2, 2:]
    for y in range(height):
        row_above, row, row_below, result = image[max(y - 1, 0)], image[y], image[min(y + 1, height - 1)], out[y]
        for x in range(width):
            less, more = min(row_above[x], row[x]), max(row_above[x], row[x])
            low[x] = min(less, row_below[x])
            middle[x] = max(less, min(more, row_below[x]))
            high[x] = max(more, row_below[x])
        sorted[:, 0] = sorted[:, 1]
        sorted[:, -1] = sorted[:, -2]
        for x in range(width):
            least = max(low0[x], low[x], low2[x])
            most = min(high0[x], high[x], high2[x])
            between = max(min(middle0[x], middle[x]), min(max(middle0[x], middle[x]), middle2[x]))
            result[x] = max(min(least, between), min(max(least, between), most))
