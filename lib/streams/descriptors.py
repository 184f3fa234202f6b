"""A hand-made descriptor of a clip, a baseline for learnt features: its mean face and the energy of its optical flow."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field

from lib.core.shards import Record
from lib.streams.base import Stream, StreamSettings


class Settings(StreamSettings):
    """source: the stream of images. face_cells, flow_cells: number of cells per side of the grids for the mean face and the
    flow's energy."""

    source: Literal["faces", "pictures"]
    face_cells: Annotated[int, Field(ge=1, le=64)]
    flow_cells: Annotated[int, Field(ge=1, le=64)]


def make_extractor(settings: Settings) -> Callable[..., Record]:
    """Return a function that computes a clip's descriptor from its faces and flow, or from its prepared images alone."""

    def make(faces: Record, flow: Record | None = None) -> Record:
        if flow is None:
            return Record(faces.clip, {"descriptor": average_images(faces.arrays["faces"][()], settings.face_cells)})
        scale = flow.attributes["scale"]
        pooled = compute_descriptor(faces.arrays, flow.arrays, scale, settings.face_cells, settings.flow_cells)
        return Record(flow.clip, {"descriptor": pooled})

    return make


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return the clip's only step, the descriptor (1, D)."""
    return record.arrays["descriptor"][()][None][indices]


def compute_descriptor(
    faces: Mapping[str, np.ndarray], flow: Mapping[str, np.ndarray], scale: float, face_cells: int, flow_cells: int
) -> np.ndarray:
    """Return the descriptor (3 F² + 2 G²,), float32, for F = `face_cells` and G = `flow_cells`, from the shards' arrays.

    The first part is the mean over time of all present faces, averaged in F x F cells, RGB in [0, 1]. The second part is the
    mean and the standard deviation over time of the flow's length in pixels, averaged in G x G cells; it is 0 if no two
    consecutive faces are present.
    """
    mean_face = average_images(faces["faces"][faces["found"] > 0], face_cells)
    lengths = np.linalg.norm(flow["flow"][flow["valid"] > 0].astype(np.float32) * scale, axis=-1)
    energy = np.stack([_cells(length, flow_cells) for length in lengths] or [np.zeros(flow_cells**2, np.float32)])
    return np.concatenate([mean_face, energy.mean(0), energy.std(0)])


def average_images(images: np.ndarray, cells: int) -> np.ndarray:
    """Return the mean of images, uint8 (T, S, S, 3), averaged in `cells` x `cells` areas, RGB in [0, 1]: float32 (3 F²,)."""
    return _cells(images.mean(0, dtype=np.float32) / 255, cells)


def _cells(picture: np.ndarray, cells: int) -> np.ndarray:
    """Return the means of an image (S, S) or (S, S, C) in `cells` x `cells` areas, flattened."""
    return cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA).ravel()


STREAM = Stream(
    inputs=("faces", "flow", "pictures"),
    input_key="source",
    joint_inputs={"faces": ("faces", "flow")},
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
)
