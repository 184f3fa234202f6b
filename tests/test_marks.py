"""Marks of behaviour and voice in a frame: axes of the head, and names of events."""

import json
from typing import Any

import numpy as np
import pytest

from lib.core.shards import Record
from lib.serving.marks import draw_marks
from lib.streams import base

HEAD = {"pitch": 0.0, "yaw": 0.0, "roll": 0.0, "head_x": 0.0, "head_y": 0.0, "head_z": 500.0}
HEIGHT, WIDTH = 240, 320


def make_record(times: list[float], attributes: dict[str, Any] | None = None, **values: float) -> Record:
    steps = np.tile(list(values.values()), (len(times), 1)).astype(np.float32)
    names = {base.NAMES: json.dumps({"steps": [*values]})}
    return Record("a.mp4", {"steps": steps, "times": np.array(times)}, names | (attributes or {}))


def draw(behaviour: Record | None, voice: Record | None = None, time: float = 0.0) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    draw_marks(image, time, behaviour, voice)
    return image


def find_colour(image: np.ndarray, channel: int) -> np.ndarray:
    """Return the mean position, x and y, of the pixels in which a channel is far above the others."""
    others = np.delete(image.astype(int), channel, 2).max(2)
    rows, columns = np.nonzero(image[..., channel].astype(int) - others > 60)
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize(("yaw", "side"), [(30, -1), (-30, 1)])
def test_axes_follow_the_head(yaw: float, side: int) -> None:
    behaviour = make_record([0.0], {"focal_length": 0.78}, **(HEAD | {"pitch": -20.0, "yaw": yaw}))
    image = draw(behaviour)
    red, green, blue = (find_colour(image, channel) for channel in range(3))
    assert red[0] > green[0]
    assert green[1] > red[1]
    assert side * (blue[0] - green[0]) > 5  # forward


def test_pitch_points_forward_axis_down() -> None:
    down, up = (
        draw(make_record([0.0], {"focal_length": 0.78}, **(HEAD | {"pitch": angle}))) for angle in (25.0, -25.0)
    )
    assert find_colour(down, 2)[1] > find_colour(up, 2)[1] + 5


def count_text(image: np.ndarray) -> int:
    return int((image[:60, :120] < 80).all(2).sum())


def test_events_are_named_at_their_times_only() -> None:
    blink, open_eyes = (make_record([0.0], {"focal_length": 0.78}, **HEAD, blink=value) for value in (1.0, 0.0))
    assert count_text(draw(blink)) > 20
    assert count_text(draw(open_eyes)) == 0
    speech = make_record([0.0, 0.01, 0.02], speech=1.0)
    assert count_text(draw(None, speech)) > 20
    assert count_text(draw(blink, speech)) > count_text(draw(blink))
    assert count_text(draw(None, speech, time=1.0)) == 0  # the audio has ended


def test_frame_without_face_or_streams_has_no_marks() -> None:
    absent = make_record([0.0], {"focal_length": 0.78}, **dict.fromkeys(HEAD, np.nan), blink=np.nan)
    assert (draw(absent) == 128).all()
    assert (draw(None) == 128).all()
