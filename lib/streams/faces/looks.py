"""Compare small grey aligned faces: whether two show one person, and whether a face moves or is an image of a face."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

SIDE = 32  # pixels
MIN_LIKENESS = 0.75
"""Lowest likeness of one person before and after a cut. Of the eleven people in the clips used to set it, the two most
similar have 0.70; halves of a clip of one person have 0.87 and more."""
_EDGE = 2  # pixels of a look that hold what the warp repeats
_BLUR = 1.2  # pixels
_Y, _X = np.mgrid[-0.5 : 0.5 : SIDE * 1j, -0.5 : 0.5 : SIDE * 1j]


def average_looks(of_one: np.ndarray) -> np.ndarray:
    """Return the mean of a person's looks (n, SIDE, SIDE), each without its brightness and contrast, float64."""
    plain = of_one - of_one.mean((1, 2), keepdims=True, dtype=float)
    return (plain / np.maximum(np.linalg.norm(plain, axis=(1, 2), keepdims=True), 1e-9)).mean(0)


def compute_likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation, at most 1, of two means of looks."""
    return float((one * other).sum() / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-9))


def measure_motion(in_order: Sequence[np.ndarray]) -> float:
    """Return how much a face changes from one look to the next, at the median: what is left of their difference after the
    best affine motion and change of light (Lucas and Kanade 1981, one step), of the look's contrast, in per cent.

    Pictures in a film have 0 to 0.7, up to 1.9 where the camera shakes hard; people 1.3 to 9 (in the clips that this was set
    by). No motion is seen in fewer than two looks.
    """
    blurred = [cv2.GaussianBlur(look.astype(np.float32), (0, 0), _BLUR) for look in in_order]
    return (
        float(np.median([_left(look, next_look) for look, next_look in pairwise(blurred)])) if len(blurred) > 1 else 0.0
    )


def _left(before: np.ndarray, after: np.ndarray) -> float:
    middle = (before + after) / 2
    down, right = np.gradient(middle)
    explained = [right, right * _X, right * _Y, down, down * _X, down * _Y, middle, np.ones_like(middle)]
    inside = slice(_EDGE, -_EDGE)
    columns = np.stack([part[inside, inside].ravel() for part in explained], axis=1)
    change = (after - before)[inside, inside].ravel()
    residual = change - columns @ np.linalg.lstsq(columns, change, rcond=None)[0]
    return 100 * float(np.abs(residual).mean() / max(middle.std(), 1e-6))
