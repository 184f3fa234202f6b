"""Constants of the stream's arrays and arguments, and its images, separate so that importing them loads no detector."""

import numpy as np

from lib.core.records import Record

ABSENT, INTERPOLATED, DETECTED = 0, 1, 2
"""Values of the array `found`: the frame has no face, or the points of its face were interpolated or detected."""

MAIN = "main"
"""The default person to track: large, visible for a long time, and moving."""

ALL = "all"
"""All persons: the value of `faces.persons`, and the choice of a predictor, that stand for each person of a clip."""

PERSON_CHOICES = (MAIN, "left", "right", "largest")
"""Choices of the person to track. A number N as text is also allowed: the Nth person from the left, starting at 1."""


def read_faces(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return faces as RGB uint8 (K, 3, S, S)."""
    faces = record.arrays["faces"]
    return np.stack([faces[index] for index in indices]).transpose(0, 3, 1, 2)
