"""Cut clips into windows, and merge the warnings of a clip's windows."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.media.packets import Span, VideoError, describe_cut, measure_duration

NEARLY = 0.1
"""Relative difference from the training clips that causes no warning."""


def clip_seconds(clip: Path) -> float:
    """Return how long a clip is shown; 0 if its duration can't be read: the streams then report what is wrong."""
    try:
        return measure_duration(clip)
    except VideoError:
        return 0.0


def warn_of_cut(clip: Path) -> list[str]:
    """Return a warning if a file ends before its header says; none if it can't be read."""
    try:
        cut = describe_cut(clip)
    except VideoError:
        return []
    return [cut] if cut else []


def long_clip_spans(seconds: float, training: Sequence[float], window: float | None) -> list[Span]:
    """Return windows that cover a clip clearly longer than the longest training clip; none for another clip.

    training: shortest and longest duration of the training clips, empty if unknown. window: seconds of a window; None: as
    long as the longest training clip.
    """
    if not training or not (1 + NEARLY) * training[1] + 1 < seconds < math.inf:
        return []
    return cover(seconds, min(window or training[1], seconds))


def requested_spans(seconds: float, window: float | None) -> list[Span]:
    """Return the windows of a clip that is not clearly longer than the training clips, if the user chose shorter ones."""
    return cover(seconds, window) if window and window < seconds < math.inf else []


def cover(seconds: float, window: float) -> list[Span]:
    """Return windows that cover a clip; each overlaps the one before by half or more."""
    count = math.ceil((seconds - window) / (window / 2)) + 1
    return [(float(start), float(start) + window) for start in np.linspace(0, seconds - window, count)]


def describe_windows(spans: Sequence[Span], longest: float, usable: int, reason: str) -> str:
    """Return how the score of a long clip comes from its windows, `usable` of which could be used; reason: why not one."""
    if usable < len(spans):
        return f"only {usable} of {len(spans)} windows could be used ({reason}); treat the scores with care"
    length = f"it takes {spans[-1][1]:.1f} s, the training clips up to {longest:.1f} s"
    if len(spans) == 1:
        return length
    return f"{length}: the scores are means of {usable} windows, for which no interval is calibrated"


def merge_warnings(warnings: Sequence[tuple[Span, str]]) -> list[str]:
    """Return a line for each kind of warning that windows have; warnings that differ only in numbers are of one kind."""
    by_kind = dict[str, list[tuple[Span, str]]]()
    for span, warning in warnings:
        by_kind.setdefault(re.sub(r"\d+(\.\d+)?", "", warning), []).append((span, warning))
    lines = []
    for same in by_kind.values():
        (start, end), first = same[0]
        others = len(same) - 1
        more = f" (also in {others} more window{'s' if others > 1 else ''})" if others else ""
        lines.append(f"{start:.0f}–{end:.0f} s: {first}{more}")
    return lines
