"""A pooled, hand-made descriptor of a clip: its mean face and the energy of its flow. What learnt features have to beat."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib.core import shards


def descriptor(
    faces: Mapping[str, np.ndarray], flow: Mapping[str, np.ndarray], scale: float, face_cells: int, flow_cells: int
) -> np.ndarray:
    """Return (3 F² + 2 G²,) float32 for F = `face_cells`, G = `flow_cells`, of a clip's arrays as the shards hold them.

    First the mean over time of the faces that were found, in cells of F by F, RGB in [0, 1]; then in cells of G by G the
    flow's length in pixels, its mean and its standard deviation over the pairs in which both faces were found (0 if there
    is none).
    """
    mean_face = faces["faces"][faces["found"] > 0].mean(0, dtype=np.float32) / 255
    lengths = np.linalg.norm(flow["flow"][flow["valid"] > 0].astype(np.float32) * scale, axis=-1)
    energy = np.stack([_cells(length, flow_cells) for length in lengths] or [np.zeros(flow_cells**2, np.float32)])
    return np.concatenate([_cells(mean_face, face_cells), energy.mean(0), energy.std(0)])


def read(folder: Path) -> pd.DataFrame:
    """Return the descriptors of all clips that were not refused: (N, K), a row for each clip, by name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.h5")):
        found |= {one.clip: one.arrays["descriptor"] for one in shards.read(path) if not one.refused}
    return pd.DataFrame.from_dict(found, orient="index")


def _cells(picture: np.ndarray, cells: int) -> np.ndarray:
    """Average a picture (S, S) or (S, S, C) in `cells` by `cells` areas, flattened."""
    return cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA).ravel()
