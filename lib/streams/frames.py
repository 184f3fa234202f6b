"""A clip's frames at a fixed rate, as JPEG bytes that a shard can hold."""

from pathlib import Path

import cv2
import numpy as np

from lib.core.shards import Record
from lib.media import video


def sample(path: Path, clip: str, fps: float, max_side: int, quality: int) -> Record:
    """Return a clip's frames, `fps` a second of presentation time, the longer side at most `max_side` pixels.

    The record holds `times` (T,) in seconds, and `jpeg`, all frames' bytes in one array; frame k is
    jpeg[offsets[k] : offsets[k + 1]]. A clip that does not decode or has fewer than two frames is refused.
    """
    times: list[float] = []
    encoded: list[np.ndarray] = []
    try:
        for time, frame in video.sample(path, fps, max_side):
            times.append(time)
            picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            encoded.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
    except video.VideoError as error:
        return Record(clip, refused=f"frames: {error}")
    if len(times) < 2:
        return Record(clip, refused=f"frames: {len(times)} at {fps} a second, flow needs 2")
    offsets = np.cumsum([0, *map(len, encoded)])
    return Record(clip, {"times": np.array(times), "jpeg": np.concatenate(encoded), "offsets": offsets})


def decode(record: Record) -> np.ndarray:
    """Return a record's frames as RGB uint8 (T, H, W, 3)."""
    offsets, jpeg = record.arrays["offsets"], record.arrays["jpeg"]
    return np.stack(
        [
            cv2.cvtColor(cv2.imdecode(jpeg[start:end], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            for start, end in zip(offsets[:-1], offsets[1:], strict=True)
        ]
    )
