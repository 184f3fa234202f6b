"""Cut clips into windows, and merge the warnings of a clip's windows."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.media.packets import Span, VideoError, describe_cut, measure_duration

NEARLY = 0.1
"""Largest relative difference from the training clips without a warning."""


def measure_clip_seconds(clip: Path) -> float:
    """Return a clip's duration in seconds, or 0 if it can't be read; then the streams report the error."""
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


def split_long_clip(seconds: float, training: Sequence[float], window: float | None) -> list[Span]:
    """Return windows that cover a clip if it is clearly longer than the longest training clip, else an empty list.

    training: shortest and longest duration of the training clips, empty if unknown. window: length of a window in seconds;
    None uses the length of the longest training clip.
    """
    if not training or not (1 + NEARLY) * training[1] + 1 < seconds < math.inf:
        return []
    return place_windows(seconds, min(window or training[1], seconds))


def split_by_request(seconds: float, window: float | None) -> list[Span]:
    """Return windows that cover a clip if the user requests windows shorter than the clip, else an empty list."""
    return place_windows(seconds, window) if window and window < seconds < math.inf else []


def place_windows(seconds: float, window: float) -> list[Span]:
    """Return windows that cover a clip. Each window overlaps the previous window by at least half."""
    count = math.ceil((seconds - window) / (window / 2)) + 1
    return [(float(start), float(start) + window) for start in np.linspace(0, seconds - window, count)]


def describe_windows(spans: Sequence[Span], longest: float, usable: int, reason: str) -> str:
    """Return a warning that explains how the scores of a long clip are computed from its windows.

    usable: number of windows that could be used. reason: why another window could not be used.
    """
    if usable < len(spans):
        return f"only {usable} of {len(spans)} windows could be used ({reason}); treat the scores with care"
    length = f"the clip takes {spans[-1][1]:.1f} s, the training clips up to {longest:.1f} s"
    if len(spans) == 1:
        return length
    return f"{length}: the scores are means of {usable} windows, for which no interval is calibrated"


def merge_warnings(warnings: Sequence[tuple[Span, str]]) -> list[str]:
    """Return one line for each kind of warning of the windows. Warnings that differ only in numbers are the same kind."""
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
