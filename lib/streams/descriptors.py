"""A pooled, hand-made descriptor of a clip: its mean face and the energy of its flow. What learnt features have to beat."""

from collections.abc import Callable, Mapping
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from lib.core.shards import Record
from lib.streams.base import Stream, StreamSettings


class Settings(StreamSettings):
    """Cells a side that the mean face and the flow's energy are averaged in."""

    face_cells: Annotated[int, Field(ge=1, le=64)]
    flow_cells: Annotated[int, Field(ge=1, le=64)]


def make_extractor(settings: Settings) -> Callable[[Record, Record], Record]:
    """Return what pools a clip's faces and flow."""

    def make(faces: Record, flow: Record) -> Record:
        scale = flow.attributes["scale"]
        pooled = compute_descriptor(faces.arrays, flow.arrays, scale, settings.face_cells, settings.flow_cells)
        return Record(flow.clip, {"descriptor": pooled})

    return make


def read_steps(record: Record, chosen: np.ndarray) -> np.ndarray:
    """Return the descriptor, (1, D): a clip has one."""
    return record.arrays["descriptor"][()][None][chosen]


def compute_descriptor(
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


def _cells(picture: np.ndarray, cells: int) -> np.ndarray:
    """Average a picture (S, S) or (S, S, C) in `cells` by `cells` areas, flattened."""
    return cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA).ravel()


STREAM = Stream(
    inputs=("faces", "flow"),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
)
