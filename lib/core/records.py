"""Clips, and the arrays that streams make of them; separate so that importing it loads only NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Record:
    """The contents of one clip in a shard: arrays and attributes, or the reason why the clip is rejected."""

    clip: str
    arrays: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    rejected: str = ""


class Raw(NamedTuple):
    """A clip before any processing.

    path: its file, None without video. annotations: the folder of its corpus' other files, None outside a corpus. span: its
    begin and end in the file in seconds, None for the complete file.
    """

    clip: str
    path: Path | None
    annotations: Path | None
    span: tuple[float, float] | None = None


def step_times(record: Record, array: str = "") -> np.ndarray:
    """Return the times (T,) of the steps of a record, or of one of its arrays, in seconds."""
    name = f"{array}.times" if _has_own_times(record, array) else "times"
    return record.arrays[name][()] if name in record.arrays else np.zeros(1)


def present_steps(record: Record, array: str = "") -> np.ndarray:
    """Return the indices of the steps of a record, or of one of its arrays, that are present."""
    if "found" in record.arrays and not _has_own_times(record, array):
        return np.flatnonzero(record.arrays["found"][()])
    return np.arange(len(step_times(record, array)))


def measure_usable_fraction(record: Record) -> float:
    """Return the fraction of a stream's time steps that could be used."""
    return 0.0 if record.rejected else len(present_steps(record)) / len(step_times(record))


def _has_own_times(record: Record, array: str) -> bool:
    return bool(array) and f"{array}.times" in record.arrays


def choose_evenly(present: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` of the indices `present`, evenly spaced, including the first and the last."""
    if len(present) <= count:
        return present
    return present[np.linspace(0, len(present) - 1, count).astype(int)]
