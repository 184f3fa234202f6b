"""Draw the pose of the head, and the events of behaviour and voice, into a frame."""

from collections.abc import Sequence

import cv2
import numpy as np

from lib.core.shards import Record
from lib.streams import base

_EVENTS = ("blink", "nod", "shake", "away")
_AXES = (
    (40, 11, -75),
    (0, 51, -75),
    (0, 11, -150),
)  # mm from the head's centre: to the right of the face, down, forward
_TIP = (0, 11, -75)
_COLOURS = ((221, 51, 51), (34, 153, 51), (51, 102, 255))  # RGB
_GAP = 0.15  # seconds; events of a voice are read at the nearest step within this time


def draw_marks(
    image: np.ndarray, time: float, behaviour: Record | None, voice: Record | None, others: Sequence[str] = ()
) -> None:
    """Draw the marks of one frame (H, W, 3) at `time` in seconds: three axes from the tip of the nose, and names of events,
    followed by `others`.

    Red points to the right of the image if the head looks into the camera, green down, blue forward. Records of streams that
    the model does not use are None.
    """
    words = []
    if behaviour is not None and (values := _values_at(behaviour, time)):
        if np.isfinite(values["pitch"]):
            _draw_axes(image, values, float(behaviour.attributes["focal_length"]))
        words += [name for name in _EVENTS if values.get(name) == 1]
    if voice is not None and _values_at(voice, time).get("speech") == 1:
        words.append("speech")
    size = len(image) / 480
    for row, word in enumerate([*words, *others]):
        write_text(image, word, (round(8 * size), round((24 + 24 * row) * size)), size)


def write_text(image: np.ndarray, text: str, place: tuple[int, int], size: float) -> None:
    """Write text into an image, black with a white edge. place: its lower left corner. size: 1 for an image of 480 rows."""
    for colour, thickness in (((255, 255, 255), 4), ((0, 0, 0), 1)):
        thickness = max(1, round(thickness * size))
        cv2.putText(
            image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * size, colour, thickness=thickness, lineType=cv2.LINE_AA
        )


def _values_at(record: Record, time: float) -> dict[str, float]:
    """Return the measures at the step nearest to a time by name, or an empty dictionary if no step is near."""
    times = base.step_times(record)
    nearest = int(np.abs(times - time).argmin())
    if abs(times[nearest] - time) > _GAP:
        return {}
    return dict(zip(base.read_names(record)["steps"], record.arrays["steps"][nearest].tolist(), strict=True))


def _draw_axes(image: np.ndarray, values: dict[str, float], focal: float) -> None:
    from lib.streams.behaviour.pose import camera_matrix, project  # not needed for other models

    angles = np.array([values[name] for name in ("pitch", "yaw", "roll")])
    position = np.array([values[f"head_{axis}"] for axis in "xyz"])
    camera = camera_matrix(image.shape[1], image.shape[0], focal)
    tip, *ends = project([_TIP, *_AXES], angles, position, camera).round().astype(int).tolist()
    for end, colour in zip(ends, _COLOURS, strict=True):
        cv2.line(image, tip, end, colour, max(1, len(image) // 160), cv2.LINE_AA)
