"""Compare small grey aligned faces: whether two show one person, and whether a face moves or is an image of a face."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

SIDE = 32  # pixels
MIN_LIKENESS = 0.75
"""Lowest likeness of one person before and after a cut. Among the eleven people in the clips used to set this value, the two
most similar have 0.70; two halves of a clip of one person have 0.87 or more."""
MIN_BEST_LIKENESS = 0.8
"""Lowest likeness of the two most similar thumbnails of one person before and after a cut. The most similar thumbnails of
two of these people have 0.74; of pairs of parts of a clip of one person, however the head turns, 95 in 100 have 0.86 and
more."""
EDGE = 2
"""Pixels at each side that can be repeated edge pixels."""
_BLUR = 1.2  # pixels
_Y, _X = np.mgrid[-0.5 : 0.5 : SIDE * 1j, -0.5 : 0.5 : SIDE * 1j]


def average_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Return the mean of a person's thumbnails (n, SIDE, SIDE), each normalised in brightness and contrast; float64."""
    plain = thumbnails - thumbnails.mean((1, 2), keepdims=True, dtype=float)
    return (plain / np.maximum(np.linalg.norm(plain, axis=(1, 2), keepdims=True), 1e-9)).mean(0)


def compute_likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two mean thumbnails, at most 1."""
    return float((first * second).sum() / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-9))


def find_best_likeness(thumbnails: np.ndarray, others: np.ndarray) -> float:
    """Return the highest likeness of a thumbnail of `thumbnails` (n, SIDE, SIDE) and a thumbnail of `others`."""
    flat, other_flat = (
        (of_one - of_one.mean((1, 2), keepdims=True, dtype=float)).reshape(len(of_one), -1)
        for of_one in (thumbnails, others)
    )
    norms = np.outer(np.linalg.norm(flat, axis=1), np.linalg.norm(other_flat, axis=1))
    return float((flat @ other_flat.T / np.maximum(norms, 1e-9)).max())


def measure_motion(thumbnails: Sequence[np.ndarray]) -> float:
    """Return the median motion of a face between consecutive thumbnails, in per cent of the thumbnails' contrast.

    The motion is the residual of the difference after the best affine motion and change of light (Lucas and Kanade 1981, one
    step). In the clips used to set the limits, photographs have 0 to 0.7, up to 1.9 if the camera shakes strongly; people
    have 1.3 to 9. The result is 0 for fewer than two thumbnails.
    """
    motions = [float(measure_change(before, after).mean()) for before, after in pairwise(map(blur, thumbnails))]
    return float(np.median(motions)) if motions else 0.0


def blur(thumbnail: np.ndarray) -> np.ndarray:
    """Return a thumbnail without noise, float32."""
    return cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), _BLUR)


def measure_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how much each pixel changes between two blurred thumbnails after the best affine motion and change of light, in
    per cent of the thumbnails' contrast; (SIDE - 2 EDGE, SIDE - 2 EDGE)."""
    middle = (before + after) / 2
    down, right = np.gradient(middle)
    explained = [right, right * _X, right * _Y, down, down * _X, down * _Y, middle, np.ones_like(middle)]
    inside = slice(EDGE, -EDGE)
    columns = np.stack([part[inside, inside].ravel() for part in explained], axis=1)
    change = (after - before)[inside, inside].ravel()
    residual = change - columns @ np.linalg.lstsq(columns, change, rcond=None)[0]
    change_map: np.ndarray = 100 * np.abs(residual).reshape(middle[inside, inside].shape) / max(middle.std(), 1e-6)
    return change_map
