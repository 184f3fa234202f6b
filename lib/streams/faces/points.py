"""Landmarks in the aligned faces of a clip, without PyTorch and without settings."""

from collections.abc import Callable

import numpy as np

from lib.core.face_template import TEMPLATE
from lib.core.records import Record

_FIVE = ([*range(36, 42)], [*range(42, 48)], [30], [48], [54])
"""Indices of the 68 points whose means are the five points: eyes, tip of the nose, corners of the mouth."""


def read_points(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return points as float32 (K, P, 2): x and y in pixels from the upper left corner of the aligned face."""
    values: np.ndarray = record.arrays["points"][()][indices]
    return values


def find_landmarks(faces: Record, predict: Callable[[np.ndarray], np.ndarray] | None) -> Record:
    """Return the landmarks of a clip's faces: `points` (T, P, 2), NaN where the face is absent, `found` and `times`.

    Attributes: `outside`, the number of points outside the image, and `pixels_from_template`, the mean distance of the five
    points from the alignment's template in pixels, which is large if the predictor fails.
    """
    pictures, present = faces.arrays["faces"], np.flatnonzero(faces.arrays["found"])
    side = pictures.shape[1]
    template = TEMPLATE * (side / 112) + 0.5
    if predict is None:
        face_points = [align_points(points, side) for points in faces.arrays["landmarks"][present]]
    else:
        face_points = [predict(picture) for picture in pictures[present]]
    points = np.full((len(pictures), *face_points[0].shape), np.nan, np.float32)
    points[present] = face_points
    five = (
        points[present] if predict is None else np.stack([points[present][:, indices].mean(1) for indices in _FIVE], 1)
    )
    far = np.linalg.norm(five - template, axis=-1).mean()
    outside = ((points[present] < 0) | (points[present] > side)).any(-1).sum()
    arrays = {"points": points, "found": faces.arrays["found"], "times": faces.arrays["times"]}
    return Record(faces.clip, arrays, {"outside": int(outside), "pixels_from_template": float(far)})


def align_points(points: np.ndarray, side: int) -> np.ndarray:
    """Return the position of a frame's five points (5, 2) in the aligned face of `side` pixels."""
    from lib.streams.faces.align import fit_similarity  # not needed to read the stream's shards

    points = points.astype(float)
    to_template = fit_similarity(points, TEMPLATE * (side / 112))
    return points @ to_template[:, :2].T + to_template[:, 2] + 0.5  # the template's origin is the first pixel's centre
