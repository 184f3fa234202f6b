"""Read video files with PyAV: what a clip is made of, and its frames at a fixed rate by presentation time."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

_TIME_BASE = 1_000_000  # av's, a second
_STEP_TOLERANCE = 1e-6  # seconds


class VideoError(Exception):
    """A clip that cannot be used, and why."""


@dataclass(frozen=True)
class Probe:
    """What a clip's headers and packets tell: seconds, frames a second, pixels as shown, whether it has sound."""

    duration: float
    frames: int
    fps: float
    width: int
    height: int
    audio: bool


def probe(path: Path) -> Probe:
    """Read every packet of the best video stream, decoding but the first frame.

    Raises VideoError if the file does not open, has no video stream, holds no frame, or ends before its index says.
    """
    try:
        with av.open(str(path.absolute())) as container:
            stream = _video_stream(container)
            audio = bool(container.streams.audio)
            times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
            promised = stream.frames
            step = stream.time_base or Fraction(1, _TIME_BASE)
        first = next(sample(path, fps=1.0), None)
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"cannot be read: {_text(error)}") from None
    if first is None or not times:
        raise VideoError("holds no frame")
    if len(times) < promised:
        raise VideoError(f"is cut off: {len(times)} of {promised} frames are there")
    span = float((times[-1] - times[0]) * step)
    fps = (len(times) - 1) / span if span > 0 else 0.0
    height, width = first[1].shape[:2]
    return Probe(span + (1 / fps if fps else 0.0), len(times), fps, width, height, audio)


def sample(path: Path, fps: float, max_side: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds since the clip's first frame, RGB uint8 (H, W, 3)) `fps` times a second of presentation time.

    At each instant k / fps the frame is the one on show: the last whose presentation time has come, whatever the
    file's own rate. Rotation metadata is applied; frames whose longer side exceeds `max_side` are scaled down to it.
    Raises VideoError if decoding fails on the way.
    """
    try:
        with av.open(str(path.absolute())) as container:
            stream = _video_stream(container)
            stream.thread_type = "AUTO"
            start: float | None = None
            shown: av.VideoFrame | None = None
            index = 0
            now = 0.0
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                start = frame.time if start is None else start
                now = frame.time - start
                while shown is not None and index / fps < now - _STEP_TOLERANCE:
                    yield index / fps, _picture(shown, max_side)
                    index += 1
                shown = frame
            if shown is not None and index / fps <= now + _STEP_TOLERANCE:
                yield index / fps, _picture(shown, max_side)
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"cannot be decoded: {_text(error)}") from None


def sound(path: Path, sample_rate: int) -> tuple[float, np.ndarray]:
    """Return the first audio stream, mixed down to one channel at `sample_rate` Hz: the seconds from the first video
    frame to its first sample, and the samples, float32 in [-1, 1].

    Raises VideoError if there is none or it can't be decoded.
    """
    chunks: list[np.ndarray] = []
    try:
        with av.open(str(path.absolute())) as container:
            if not container.streams.audio:
                raise VideoError("has no sound")
            pictures = _video_stream(container)
            zero = float((pictures.start_time or 0) * (pictures.time_base or 0))
            resampler = av.AudioResampler("fltp", "mono", sample_rate)
            start: float | None = None
            for frame in container.decode(container.streams.audio[0]):
                start = (frame.time or 0.0) - zero if start is None else start
                chunks += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
            if start is not None:
                chunks += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"sound cannot be decoded: {_text(error)}") from None
    if start is None:
        raise VideoError("has no sound")
    return start, np.concatenate(chunks)


def write(path: Path, frames: np.ndarray, fps: int, sound: np.ndarray, sample_rate: int) -> None:
    """Write RGB uint8 frames (T, H, W, 3) as H.264 and mono float sound in [-1, 1] as AAC; same input, same bytes."""
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        # x264's look-ahead makes other bytes of the same frames from one call to the next
        video.options = {"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "rc-lookahead=0"}
        audio = container.add_stream("aac", rate=sample_rate, layout="mono")
        audio.time_base = Fraction(1, sample_rate)
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        voice = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], format="fltp", layout="mono")
        voice.sample_rate, voice.pts, voice.time_base = sample_rate, 0, audio.time_base
        container.mux(audio.encode(voice))
        container.mux(audio.encode())


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The stream with the most pixels: some files carry a preview or a cover beside it."""
    if not container.streams.video:
        raise VideoError("has no video stream")
    return max(container.streams.video, key=lambda stream: (stream.width or 0) * (stream.height or 0))


def _picture(frame: av.VideoFrame, max_side: int | None) -> np.ndarray:
    scale = min(1.0, max_side / max(frame.width, frame.height)) if max_side else 1.0
    picture = frame.to_ndarray(
        format="rgb24", width=round(frame.width * scale), height=round(frame.height * scale), interpolation="AREA"
    )
    turns = {0: None, 90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    turn = turns.get(round(frame.rotation / 90) * 90 % 360)
    return picture if turn is None else cv2.rotate(picture, turn)


def _text(error: Exception) -> str:
    return " ".join(str(error).split())
