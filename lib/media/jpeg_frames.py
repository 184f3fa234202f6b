"""Sample a clip's frames at a fixed rate as JPEG bytes, and decode them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import cv2
import numpy as np

from lib.core.records import Raw, Record
from lib.media.frames import read_frames
from lib.media.packets import Span, UnexpectedFrameError, VideoError
from lib.media.windows import read_windows


def sample_frames(raw: Raw, fps: float, max_side: int, quality: int) -> Record:
    """Return a clip's frames at `fps` frames per second of presentation time, with sides of at most `max_side` pixels.

    The record has `times` (T,) in seconds, and `jpeg`, the bytes of all frames in one array; frame k is
    jpeg[offsets[k] : offsets[k + 1]]. A clip that can't be decoded or has fewer than two frames is rejected.
    """
    try:
        images = read_frames(raw.path, fps, max_side, raw.span)
        return _make_record(raw.clip, ((time, _encode(image, quality)) for time, image in images), fps)
    except VideoError as error:
        return Record(raw.clip, rejected=f"frames: {error}")


def sample_windows(raw: Raw, spans: Sequence[Span], fps: float, max_side: int, quality: int) -> Iterator[Record]:
    """Yield the records of `sample_frames` for windows of a video, which is decoded once.

    spans: in rising order of their begins and of their ends. It ends before a window that must be decoded separately.
    """
    encode = partial(_encode, quality=quality)
    with suppress(VideoError, UnexpectedFrameError):
        for frames in read_windows(raw.path, fps, max_side, spans, encode):
            yield _make_record(raw.clip, frames, fps)


def _encode(frame: np.ndarray, quality: int) -> bytes:
    picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _make_record(clip: str, frames: Iterable[tuple[float, bytes]], fps: float) -> Record:
    """Return the record of a clip's frames, given their times and JPEG bytes."""
    times, offsets, encoded = list[float](), [0], bytearray()
    for time, image in frames:
        times.append(time)
        encoded += image
        offsets.append(len(encoded))
    if len(times) < 2:
        return Record(clip, rejected=f"frames: {len(times)} at {fps} per second, flow needs 2")
    jpeg = np.frombuffer(encoded, np.uint8)
    return Record(clip, {"times": np.array(times), "jpeg": jpeg, "offsets": np.array(offsets)})


def decode_frames(record: Record, indices: np.ndarray) -> list[np.ndarray]:
    """Return frames as RGB uint8 (K of (H, W, 3))."""
    offsets, jpeg = record.arrays["offsets"][()], record.arrays["jpeg"]
    return [
        np.asarray(cv2.imdecode(jpeg[offsets[index] : offsets[index + 1]], cv2.IMREAD_COLOR_RGB)) for index in indices
    ]
