"""Sample a clip's frames at a fixed rate as JPEG bytes, and decode them."""

import cv2
import numpy as np

from lib.core.records import Raw, Record
from lib.media.frames import read_frames
from lib.media.packets import VideoError


def sample_frames(raw: Raw, fps: float, max_side: int, quality: int) -> Record:
    """Return a clip's frames at `fps` frames per second of presentation time, with sides of at most `max_side` pixels.

    The record has `times` (T,) in seconds, and `jpeg`, the bytes of all frames in one array; frame k is
    jpeg[offsets[k] : offsets[k + 1]]. A clip that can't be decoded or has fewer than two frames is rejected.
    """
    times: list[float] = []
    offsets, encoded = [0], bytearray()
    try:
        for time, frame in read_frames(raw.path, fps, max_side, raw.span):
            times.append(time)
            picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            encoded += cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].data
            offsets.append(len(encoded))
    except VideoError as error:
        return Record(raw.clip, rejected=f"frames: {error}")
    if len(times) < 2:
        return Record(raw.clip, rejected=f"frames: {len(times)} at {fps} per second, flow needs 2")
    jpeg = np.frombuffer(encoded, np.uint8)
    return Record(raw.clip, {"times": np.array(times), "jpeg": jpeg, "offsets": np.array(offsets)})


def decode_frames(record: Record, indices: np.ndarray) -> list[np.ndarray]:
    """Return frames as RGB uint8 (K of (H, W, 3))."""
    offsets, jpeg = record.arrays["offsets"][()], record.arrays["jpeg"]
    return [
        np.asarray(cv2.imdecode(jpeg[offsets[index] : offsets[index + 1]], cv2.IMREAD_COLOR_RGB)) for index in indices
    ]
