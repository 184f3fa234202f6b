"""A pyramid level of TV-L1 on the CPU, compiled by Numba: pair by pair, so that a pair's state stays in a core's cache.

The same scheme as `lib.flow.tvl1._solve_level`, which is the reference. Numba brings its compiler along and keeps what it
compiled in `__pycache__`; the first use on a machine takes some seconds more.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
    "fastmath": True,
}
_FIELDS = 10  # u1, u2, p11, p12, p21, p22, gradient x and y, constant, 1 / |gradient|^2
_ZERO, _ONE, _TWO, _THREE = np.float32(0), np.float32(1), np.float32(2), np.float32(3)
_SHARPNESS = np.float32(-0.75)  # a of Keys (1981), as in OpenCV and PyTorch
_TINY = np.float32(1e-9)


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
    """Return the flow (B, 2, H, W) that starts from `u`; images (B, H, W), `gradient` of `next` (B, 2, H, W); float32.

    Pairs are shared out over as many threads as PyTorch uses.
    """
    flow = u.clone(memory_format=torch.contiguous_format)
    images = [tensor.contiguous().numpy() for tensor in (previous, next, gradient, flow)]
    weights = (np.float32(value) for value in (lambda_ * theta, theta, tau / theta))
    settings = (*weights, warps, iterations, np.float32(epsilon), median)

    def solve(pair: int) -> None:
        _solve(*(image[pair] for image in images), *settings)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(solve, range(len(flow))))
    return flow


@njit(**_OPTIONS)
def _solve(
    previous: np.ndarray,
    next: np.ndarray,
    gradient: np.ndarray,
    flow: np.ndarray,
    limit: np.float32,
    theta: np.float32,
    rate: np.float32,
    warps: int,
    iterations: int,
    epsilon: np.float32,
    median: bool,
) -> None:
    """Change `flow` (2, H, W) in place."""
    height, width = previous.shape
    # Each field is one row of memory: an empty line, the picture's lines and an empty one, with an empty pixel after each
    # line. So a field is updated by one plain loop, which the compiler turns into vector instructions.
    stride = width + 1
    first, last = stride, (height + 1) * stride
    state = np.zeros((_FIELDS, last + stride), np.float32)
    u1, u2 = state[0, first:last].reshape(height, stride), state[1, first:last].reshape(height, stride)
    u1[:, :width] = flow[0]
    u2[:, :width] = flow[1]
    for _ in range(warps):
        if median:
            _median(u1, flow[0])
            _median(u2, flow[1])
            u1[:, :width] = flow[0]
            u2[:, :width] = flow[1]
        _linearise(previous, next, gradient, u1, u2, state[6:, first:last])
        _iterate(state, height, width, limit, theta, rate, iterations, epsilon)
    flow[0] = u1[:, :width]
    flow[1] = u2[:, :width]


@njit(**_OPTIONS)
def _iterate(
    state: np.ndarray,
    height: int,
    width: int,
    limit: np.float32,
    theta: np.float32,
    rate: np.float32,
    iterations: int,
    epsilon: np.float32,
) -> None:
    stride = width + 1
    first, last = stride, (height + 1) * stride
    inside, right, left = slice(first, last), slice(first + 1, last + 1), slice(first - 1, last - 1)
    below, above = slice(first + stride, last + stride), slice(first - stride, last - stride)
    u1, u2, p11, p12, p21, p22 = state[0], state[1], state[2], state[3], state[4], state[5]
    gx, gy, constant, inverse = state[6, inside], state[7, inside], state[8, inside], state[9, inside]
    enough = epsilon * epsilon * np.float32(height * width)
    for _ in range(iterations):
        # fmt: off
        change = _primal(
            u1[inside], u2[inside], gx, gy, constant, inverse,
            p11[inside], p12[inside], p11[left], p12[above], p21[inside], p22[inside], p21[left], p22[above], limit, theta,
        )
        for end in range(first + width, last, stride):  # repeat the last column and line: derivatives across them are 0
            u1[end], u2[end] = u1[end - 1], u2[end - 1]
        for below_last in range(last, last + width):
            u1[below_last], u2[below_last] = u1[below_last - stride], u2[below_last - stride]
        _dual(
            u1[inside], u2[inside], u1[right], u2[right], u1[below], u2[below],
            p11[inside], p12[inside], p21[inside], p22[inside], rate,
        )
        # fmt: on
        for end in range(first + width, last, stride):
            p11[end], p12[end], p21[end], p22[end] = _ZERO, _ZERO, _ZERO, _ZERO
        if change < enough:
            break


@njit(**_OPTIONS)
def _primal(
    u1: np.ndarray,
    u2: np.ndarray,
    gx: np.ndarray,
    gy: np.ndarray,
    constant: np.ndarray,
    inverse: np.ndarray,
    p11: np.ndarray,
    p12: np.ndarray,
    p11_left: np.ndarray,
    p12_above: np.ndarray,
    p21: np.ndarray,
    p22: np.ndarray,
    p21_left: np.ndarray,
    p22_above: np.ndarray,
    limit: np.float32,
    theta: np.float32,
) -> np.float32:
    """The thresholding step v, then u = v + theta div p; return the sum of squares of u's change."""
    change = _ZERO
    for i in range(len(u1)):
        step = (constant[i] + gx[i] * u1[i] + gy[i] * u2[i]) * inverse[i]
        step = min(max(step, -limit), limit)
        change1 = theta * (p11[i] - p11_left[i] + p12[i] - p12_above[i]) - step * gx[i]
        change2 = theta * (p21[i] - p21_left[i] + p22[i] - p22_above[i]) - step * gy[i]
        u1[i] += change1
        u2[i] += change2
        change += change1 * change1 + change2 * change2
    return change


@njit(**_OPTIONS)
def _dual(
    u1: np.ndarray,
    u2: np.ndarray,
    u1_right: np.ndarray,
    u2_right: np.ndarray,
    u1_below: np.ndarray,
    u2_below: np.ndarray,
    p11: np.ndarray,
    p12: np.ndarray,
    p21: np.ndarray,
    p22: np.ndarray,
    rate: np.float32,
) -> None:
    """p = (p + tau/theta grad u) / (1 + tau/theta |grad u|); one division serves both components."""
    for i in range(len(u1)):
        x1, y1 = u1_right[i] - u1[i], u1_below[i] - u1[i]
        x2, y2 = u2_right[i] - u2[i], u2_below[i] - u2[i]
        norm1 = _ONE + rate * math.sqrt(x1 * x1 + y1 * y1)
        norm2 = _ONE + rate * math.sqrt(x2 * x2 + y2 * y2)
        both = _ONE / (norm1 * norm2)
        p11[i] = (p11[i] + rate * x1) * (both * norm2)
        p12[i] = (p12[i] + rate * y1) * (both * norm2)
        p21[i] = (p21[i] + rate * x2) * (both * norm1)
        p22[i] = (p22[i] + rate * y2) * (both * norm1)


@njit(**_OPTIONS)
def _linearise(
    previous: np.ndarray, next: np.ndarray, gradient: np.ndarray, u1: np.ndarray, u2: np.ndarray, out: np.ndarray
) -> None:
    """Write to `out` the gradient of `next` at x + u, the constant of the linearised residual, and 1 / |gradient|^2."""
    height, width = previous.shape
    horizontal, vertical = gradient[0], gradient[1]
    for y in range(height):
        for x in range(width):
            px, py = np.float32(x) + u1[y, x], np.float32(y) + u2[y, x]
            gx, gy, value = _ZERO, _ZERO, previous[y, x]
            if _ZERO <= px <= width - _ONE and _ZERO <= py <= height - _ONE:
                column, row = int(px), int(py)
                # fmt: off
                c0, c1, c2, c3 = max(column - 1, 0), column, min(column + 1, width - 1), min(column + 2, width - 1)
                w0, w1, w2, w3 = _cubic(px - np.float32(column))
                weights = _cubic(py - np.float32(row))
                value = _ZERO
                for k in range(4):
                    r = min(max(row - 1 + k, 0), height - 1)
                    value += weights[k] * (w0 * next[r, c0] + w1 * next[r, c1] + w2 * next[r, c2] + w3 * next[r, c3])
                    gx += weights[k] * (
                        w0 * horizontal[r, c0] + w1 * horizontal[r, c1] + w2 * horizontal[r, c2] + w3 * horizontal[r, c3]
                    )
                    gy += weights[k] * (
                        w0 * vertical[r, c0] + w1 * vertical[r, c1] + w2 * vertical[r, c2] + w3 * vertical[r, c3]
                    )
                # fmt: on
            i = y * (width + 1) + x
            out[0, i], out[1, i] = gx, gy
            out[2, i] = value - gx * u1[y, x] - gy * u2[y, x] - previous[y, x]
            out[3, i] = _ONE / (gx * gx + gy * gy + _TINY)


@njit(**_OPTIONS)
def _cubic(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the weights of the pixels at -1, 0, 1 and 2 for the place `t` in [0, 1): exactly 0, 1, 0, 0 for t = 0."""
    s = _ONE - t
    return (
        _SHARPNESS * t * s * s,
        _ONE + t * t * ((_SHARPNESS + _TWO) * t - (_SHARPNESS + _THREE)),
        t * (t * (_TWO + _SHARPNESS) * s + t - _SHARPNESS * s),
        _SHARPNESS * t * t * s,
    )


@njit(**_OPTIONS)
def _median(image: np.ndarray, out: np.ndarray) -> None:
    """Write the 3 x 3 median of `image` (H, W or wider) to `out` (H, W): columns sorted, then the median of the greatest
    low, the middle middle and the least high."""
    height, width = out.shape
    for y in range(height):
        above, here, below = image[max(y - 1, 0)], image[y], image[min(y + 1, height - 1)]
        for x in range(width):
            low0, middle0, high0 = _sort(above, here, below, max(x - 1, 0))
            low1, middle1, high1 = _sort(above, here, below, x)
            low2, middle2, high2 = _sort(above, here, below, min(x + 1, width - 1))
            low = max(low0, low1, low2)
            middle = max(min(middle0, middle1), min(max(middle0, middle1), middle2))
            high = min(high0, high1, high2)
            out[y, x] = max(min(low, middle), min(max(low, middle), high))


@njit(**_OPTIONS)
def _sort(above: np.ndarray, here: np.ndarray, below: np.ndarray, x: int) -> tuple[np.float32, np.float32, np.float32]:
    a, b, c = above[x], here[x], below[x]
    low, high = min(a, b), max(a, b)
    return min(low, c), max(low, min(high, c)), max(high, c)
