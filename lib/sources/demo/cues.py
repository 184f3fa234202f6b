"""Where the demo's planted motion is in the frame: cues.csv, with which importance maps can be compared."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.sources._cues import COLUMNS
from lib.sources.demo import head

FILE = "cues.csv"

MOTION = "extraversion"
"""The target that depends on the planted motion alone, that of the mouth and of the brows."""

_SIGMAS = 2.0  # a box reaches this number of standard deviations of the motion from its centre
_SWAY = 5.0  # pixels by which the head moves to each side


def list_boxes() -> list[tuple[float, ...]]:
    """Return the boxes x, y, w, h of mouth and brows in fractions of the frame, for heads that do not nod."""
    size, boxes = np.array([head.WIDTH, head.HEIGHT]), []
    for centre, sigma in head.MOVING_PARTS.values():
        middle = head.CENTRE + (centre - head.CENTRE) / head.POSE_SCALE
        half = _SIGMAS * sigma / head.POSE_SCALE + _SWAY
        low, high = (np.clip(corner, 0, size) / size for corner in (middle - half, middle + half))
        boxes.append((*low.tolist(), *(high - low).tolist()))
    return boxes


def write_cues(path: Path, clips: Iterable[str]) -> None:
    """Write the boxes of each clip, for the target that depends on motion."""
    rows = [(clip, MOTION, "", "", *box) for clip in sorted(clips) for box in list_boxes()]
    path.unlink(missing_ok=True)  # it may be a link into data/raw/
    pd.DataFrame(rows, columns=[*COLUMNS]).to_csv(path, index=False, float_format="%.4f")
