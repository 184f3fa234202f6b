"""Show the input and the attention of a model at a time of a clip as images: face, optical flow and attention map."""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import matplotlib as mpl
import numpy as np

from lib.core.shards import Record
from lib.data import images
from lib.report.figures import ClipAttention
from lib.report.figures.attention_on_the_face import measure_attention
from lib.report.privacy import hide_face, place_template
from lib.report.settings import FacesMode
from lib.serving.marks import draw_marks, write_text
from lib.serving.results import Evidence
from lib.streams import base
from lib.streams.faces.align import TEMPLATE, fit_similarity

FULL = 3.0
"""Pixels of displacement at which the colours of flow are saturated."""
_BOX, _POINT = (68, 119, 170), (238, 102, 119)  # RGB


class Moment(NamedTuple):
    """A moment of a clip.

    time: in seconds. frame: RGB uint8 (H, W, 3), with the box and points of a detected face, and the marks of behaviour and
    voice. panels: images (S, S, 3) by title.
    """

    time: float
    frame: np.ndarray
    panels: dict[str, np.ndarray]


def read_moments(evidence: Evidence, faces_mode: FacesMode = "show") -> Iterator[Moment]:
    """Yield a moment for each step of the stream frames, if the model uses it. Times start at the beginning of the clip.

    faces_mode: how faces are shown (`lib.report.privacy.hide_face`).
    """
    frames, faces, flow = (_usable(evidence, name) for name in ("frames", "faces", "flow"))
    behaviour, voice = (_usable(evidence, name) for name in ("behaviour", "voice"))
    if frames is None:
        return
    attention = _attention(evidence)
    attention_maps = {
        key: attention_map
        for key in attention.grids
        if (attention_map := measure_attention(attention, key)) is not None
    }
    start = evidence.span[0] if evidence.span else 0.0
    for step, time in enumerate(base.step_times(frames)):
        image = np.ascontiguousarray(base.load("frames").read_steps(frames, np.array([step]))[0].transpose(1, 2, 0))
        panels: dict[str, np.ndarray] = {}
        aligned = None
        has_face = faces is not None and bool(faces.arrays["found"][step])
        points = faces.arrays["landmarks"][step] if faces is not None and has_face else None
        image = np.ascontiguousarray(hide_face(image, faces_mode, points))
        if faces is not None and points is not None:
            aligned = faces.arrays["faces"][step]
            aligned = hide_face(aligned, faces_mode, place_template(aligned))
            if faces_mode != "none":
                _draw_face(image, points, "" if evidence.person is None else str(evidence.person.number))
            panels["face"] = aligned
        speaks = evidence.speaks is not None and bool(evidence.speaks[step])
        draw_marks(image, float(time), behaviour, voice, ["speaks"] * speaks)
        for key, attention_map in attention_maps.items():
            nearest = int(np.argmin(np.abs(attention.times[key] - time)))
            background = aligned
            if key in attention.pictures:
                background = hide_face(attention.pictures[key][nearest], faces_mode)
            if background is not None:
                panels[f"attention, {key}"] = _heat_map(background, attention_map[nearest])
        if flow is not None and step < len(flow.arrays["valid"]) and flow.arrays["valid"][step]:
            panels["flow"] = colour_flow(base.load("flow").read_steps(flow, np.array([step])))[0]
        yield Moment(start + float(time), image, panels)


def colour_flow(flow: np.ndarray) -> np.ndarray:
    """Return flow (T, 2, H, W) as coloured images, RGB uint8 (T + 1, H, W, 3); the last image is the colour wheel."""
    return images.colour_flow(flow, FULL)[0].transpose(0, 2, 3, 1)


def _usable(evidence: Evidence, stream: str) -> Record | None:
    record = evidence.records.get(stream)
    return None if record is None or record.rejected else record


def _attention(evidence: Evidence) -> ClipAttention:
    tokens = evidence.output.tokens
    return ClipAttention(
        {pair: weights[0].cpu().numpy() for pair, weights in evidence.output.attention.items()},
        {name: stream_tokens.times[0].cpu().numpy() for name, stream_tokens in tokens.items()},
        {name: stream_tokens.grid for name, stream_tokens in tokens.items()},
        {name: pictures for name in tokens for pictures in images.input_images(evidence.inputs[name])},
    )


def _draw_face(image: np.ndarray, points: np.ndarray, label: str) -> None:
    """Draw the square of the aligned face, the five points (5, 2) and a label above the square into an image."""
    corners = np.array([[0, 0], [112, 0], [112, 112], [0, 112]])
    from_template = fit_similarity(TEMPLATE, points)
    square = corners @ from_template[:, :2].T + from_template[:, 2]
    thickness = max(1, round(len(image) / 180))
    cv2.polylines(image, [square.round().astype(np.int32)], True, _BOX, thickness, cv2.LINE_AA)
    for x, y in points.round().astype(int).tolist():
        cv2.circle(image, (x, y), thickness, _POINT, -1, cv2.LINE_AA)  # small, so that the eyes can be seen
    size = len(image) / 480
    corner = square.min(0)
    place = round(float(corner[0])), max(round(float(corner[1])) - 4, round(20 * size))
    write_text(image, label, place, size)


def _heat_map(image: np.ndarray, attention_map: np.ndarray) -> np.ndarray:
    """Return an attention map (h, w), coloured from 0 to twice the uniform value, over a grey version of an image."""
    height, width = image.shape[:2]
    smooth = cv2.resize(attention_map.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    heat = mpl.colormaps["magma"](np.clip(smooth / 2, 0, 1))[..., :3] * 255
    return (0.5 * image.mean(-1, keepdims=True) + 0.5 * heat).astype(np.uint8)
