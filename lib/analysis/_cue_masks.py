"""Which cells of an image, and which parts of a clip's time, people marked as evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.analysis._regions import Region
from lib.streams import frames
from lib.streams.base import step_times
from lib.streams.faces.align import TEMPLATE, fit_similarity

ALIGNED = ("faces", "flow")
"""Streams whose images show the aligned face."""

_POINTS = 4  # points along each side of a cell that are looked up in the boxes
_MARKED = 0.5  # fraction of a region's points or time that makes it marked


def find_marked_cells(
    records: Mapping[str, Any], boxes: pd.DataFrame, stream: str, cells: Sequence[Region]
) -> np.ndarray | None:
    """Return whether each cell (R,) is marked: half of its points, over the marked time, lie in a box.

    If no cell is, those with the largest fraction are. None if the images' place in the frame is unknown, or if no box lies
    in the image. boxes: cues with a box; without `start` they last for the complete clip.
    """
    points = _list_points(cells)
    times = step_times(records["frames"])
    if stream in ALIGNED and "faces" in records and not records["faces"].rejected:
        landmarks = records["faces"].arrays["landmarks"][()].astype(float)
        height, width = frames.decode_frames(records["frames"], np.arange(1))[0].shape[:2]
        places = np.stack([_to_frame(points, five, (width, height)) for five in landmarks])
    elif stream == "frames":
        places = np.broadcast_to(points, (len(times), *points.shape))
    else:
        return None
    inside, active = np.zeros(places.shape[:3], bool), np.zeros(len(times), bool)
    for box in boxes.itertuples():
        during = np.ones(len(times), bool) if np.isnan(box.start) else (times >= box.start) & (times <= box.end)
        upper_left, lower_right = np.array([box.x, box.y]), np.array([box.x + box.w, box.y + box.h])
        inside |= during[:, None, None] & ((places >= upper_left) & (places <= lower_right)).all(-1)
        active |= during
    active &= np.isfinite(places).all((1, 2, 3))
    return _mark(inside[active].mean((0, 2))) if active.any() else None


def find_marked_moments(times: pd.DataFrame, count: int, seconds: float) -> np.ndarray:
    """Return whether each of `count` equal parts of a clip is marked: half of it lies in a marked time.

    If none is, those with the largest fraction are. times: cues with `start` and `end`; seconds: the time of the last step.
    """
    middles = (np.arange(count * 100) + 0.5) / (count * 100) * seconds
    marked = np.zeros(len(middles), bool)
    for cue in times.itertuples():
        marked |= (middles >= cue.start) & (middles <= cue.end)
    mask = _mark(marked.reshape(count, 100).mean(1))
    return np.zeros(count, bool) if mask is None else mask


def _mark(fractions: np.ndarray) -> np.ndarray | None:
    if not fractions.any():
        return None
    return fractions >= min(_MARKED, fractions.max())


def _list_points(cells: Sequence[Region]) -> np.ndarray:
    """Return points (R, P, 2) of the cells, x and y in fractions of the image."""
    inner = (np.arange(_POINTS) + 0.5) / _POINTS
    grid = np.stack(np.meshgrid(inner, inner), -1).reshape(-1, 2)
    corners = np.array([region.cell for region in cells])[:, None, ::-1]
    return (corners + grid) / np.array([region.parts for region in cells])[:, None, None]


def _to_frame(points: np.ndarray, landmarks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the places in fractions of the frame of points (R, P, 2) of the aligned face, NaN without a face."""
    if not np.isfinite(landmarks).all():
        return np.full(points.shape, np.nan)
    matrix = fit_similarity(TEMPLATE, landmarks)
    in_pixels = (112 * points - 0.5) @ matrix[:, :2].T + matrix[:, 2]
    return (in_pixels + 0.5) / size
