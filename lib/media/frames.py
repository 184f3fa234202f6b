"""Read the frames of a video file at a fixed rate of presentation time, and probe its duration, size and damage."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorTrc

from lib.media import hdr
from lib.media.packets import STEP_TOLERANCE, Span, UnexpectedFrameError, VideoError, VideoTrack, open_video

_TRANSFERS: dict[int, hdr.Transfer] = {ColorTrc.SMPTE2084: "pq", ColorTrc.ARIB_STD_B67: "hlg"}
_SKIPPING = frozenset({"h264"})
"""FFmpeg's decoders that can skip exactly the frames that no other frame depends on."""
_MAX_ASPECT = 16  # of a pixel
_MAX_OVERRUN = 1.0  # seconds that a span may last beyond the last frame


@dataclass(frozen=True)
class Probe:
    """The properties of a clip.

    duration: in seconds. frames: number of frames. fps: frames per second. width, height: displayed size in pixels. audio:
    whether the clip has audio. damaged: number of frames that can't be decoded or are decoded with damage, including frames
    that depend on these.
    """

    duration: float
    frames: int
    fps: float
    width: int
    height: int
    audio: bool
    damaged: int = 0


def probe_video(path: Path, span: Span | None = None) -> Probe:
    """Decode a video, or the part of it that `span` gives, and return what it contains.

    FFmpeg reports damage that its decoder conceals in H.264 and MPEG-4, not in HEVC and MPEG-2. After such a frame all
    frames up to the next key frame count as damaged; few frames depend on a B frame, so it counts alone. Raises VideoError
    if the file does not open, has no video stream or no frame, or ends before its index or the span does.
    """
    times: list[float] = []
    width = height = damaged = 0
    smeared = False
    begin, end = span or (0.0, math.inf)
    with open_video(path, "cannot be read") as container:
        video = VideoTrack(container)
        for seconds, frame in video.decode_span(span):
            if not times:
                height, width = to_image(video, frame, _shown_size(video, frame, None)).shape[:2]
            times.append(seconds)
            smeared = (smeared and not frame.key_frame) or (frame.is_corrupt and frame.pict_type != PictureType.B)
            damaged += smeared or frame.is_corrupt
        if span is None:
            video.check_complete(path, len(times))
        elif not times:
            raise VideoError(f"begins at {begin:.1f} s, after the end of its video")
        elif video.ended and begin + times[-1] < end - _MAX_OVERRUN:
            raise VideoError(f"ends at {end:.1f} s, its video at {begin + times[-1]:.1f} s")
        audio = bool(container.streams.audio)
    if not times:
        raise VideoError("contains no frame")
    fps = (len(times) - 1) / times[-1] if times[-1] > 0 else 0.0
    duration = min(times[-1] + (1 / fps if fps else 0.0), end - begin)
    return Probe(duration, len(times), fps, width, height, audio=audio, damaged=video.damaged + damaged)


def read_frames(
    path: Path | None, fps: float, max_side: int | None = None, span: Span | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds since the clip's first frame, RGB uint8 (H, W, 3)) `fps` times a second of presentation time.

    The frame at time k / fps is the last one whose presentation time has come, whatever the file's own rate. All frames have
    the size of the first one as shown, scaled down if its longer side exceeds `max_side`.

    With `span`, times count from its beginning, and decoding starts at the last key frame before it. Without, frames that
    are never shown and that no other depends on are not decoded, where this gives the same images. Raises VideoError if the
    video is missing or can't be decoded.
    """
    finished = 0
    if span is None and (plan := _plan_frames(path, fps)):
        try:
            for timed_frame in _decode_frames(path, fps, max_side, None, plan):
                yield timed_frame
                finished += 1
            return
        except (UnexpectedFrameError, VideoError):  # skipped frames may look like a leap
            pass
    yield from islice(_decode_frames(path, fps, max_side, span, []), finished, None)


def _plan_frames(path: Path | None, fps: float) -> list[int]:
    """Return the presentation time of the frame shown at each k / fps, and of the last frame, in the stream's units.

    Empty if the packets' time stamps are incomplete, or if the decoder can't skip frames exactly.
    """
    times, seconds = list_times(path)
    if not times:
        return []
    return [times[index] for index in find_shown(seconds, 0.0, seconds[-1], fps)] + [times[-1]]


def list_times(path: Path | None) -> tuple[list[int], np.ndarray]:
    """Return the presentation times of a video's frames (T), in the stream's units and in seconds since the first.

    They follow from the packets' time stamps alone. Empty if these are incomplete, or if the decoder can't skip frames
    exactly.
    """
    with open_video(path, "cannot be decoded") as container:
        stream = VideoTrack(container).stream
        if stream.codec_context.name not in _SKIPPING:
            return [], np.empty(0)
        stamps = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = sorted(stamp for stamp in stamps if stamp is not None)
        if len(times) < max(len(stamps), 2) or len(set(times)) < len(times):
            return [], np.empty(0)
        return times, np.array([float((stamp - times[0]) * stream.time_base) for stamp in times])


def find_shown(seconds: np.ndarray, begin: float, end: float, fps: float) -> np.ndarray:
    """Return the index of the frame shown at each begin + k / fps up to `end`, given the frames' times (T,)."""
    instants = begin + np.arange(math.ceil((end - begin) * fps + 1)) / fps
    return np.searchsorted(seconds, instants + STEP_TOLERANCE, "right") - 1


def _decode_frames(
    path: Path | None, fps: float, max_side: int | None, span: Span | None, plan: Sequence[int]
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the same as `read_frames`. With a plan, only its frames, and frames that they depend on, are decoded.

    Raises UnexpectedFrameError where the decoded frames differ from the plan.
    """
    with open_video(path, "cannot be decoded") as container:
        video = VideoTrack(container)
        video.wanted = frozenset(plan) if plan else None
        sampler = Sampler(video, fps, max_side, plan)
        for now, frame in video.decode_span(span):
            for seconds, shown in sampler.push(now, frame):
                yield seconds, to_image(video, shown, sampler.size)
        for seconds, shown in sampler.finish(None if span is None or video.ended else span[1] - span[0]):
            yield seconds, to_image(video, shown, sampler.size)


class Sampler:
    """Chooses the frame shown at each k / fps, from frames in rising order of time.

    With a plan, the presentation times of the frames to show, it raises UnexpectedFrameError where they differ. size: width
    and height of all images, before their rotation: those of the first frame, with sides of up to `max_side`.
    """

    def __init__(self, video: VideoTrack, fps: float, max_side: int | None, plan: Sequence[int]) -> None:
        self._video, self._fps, self._max_side, self._plan = video, fps, max_side, plan
        self._before: av.VideoFrame | None = None
        self._index, self._now = 0, 0.0
        self.size = 0, 0

    def push(self, now: float, frame: av.VideoFrame) -> Iterator[tuple[float, av.VideoFrame]]:
        """Take the frame that is shown from `now` on, in seconds; yield the times k / fps before, and their frame."""
        if self._before is None:
            self.size = _shown_size(self._video, frame, self._max_side)
        while self._before is not None and self._index / self._fps < now - STEP_TOLERANCE:
            yield self._show(self._before)
        self._before, self._now = frame, now

    def finish(self, end: float | None) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the remaining times up to the last frame's, or before `end` if the last frame is shown until then."""
        last = self._now if end is None else end - 2 * STEP_TOLERANCE
        while self._before is not None and self._index / self._fps <= last + STEP_TOLERANCE:
            yield self._show(self._before)

    def _show(self, frame: av.VideoFrame) -> tuple[float, av.VideoFrame]:
        if self._plan and (self._index >= len(self._plan) or frame.pts != self._plan[self._index]):
            raise UnexpectedFrameError
        self._index += 1
        return (self._index - 1) / self._fps, frame


def _shown_size(video: VideoTrack, frame: av.VideoFrame, max_side: int | None) -> tuple[int, int]:
    """Return the width and height of a frame as shown, before its rotation."""
    aspect = video.stream.sample_aspect_ratio or Fraction(1)
    width, height = frame.width * video.aperture[0], frame.height * video.aperture[1]
    width = width * float(aspect) if 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT else width
    scale = min(1.0, max_side / max(width, height)) if max_side else 1.0
    return max(round(width * scale), 1), max(round(height * scale), 1)


def to_image(video: VideoTrack, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Return a frame as shown, RGB uint8 (H, W, 3); for an interlaced frame, only its first field."""
    transfer = _TRANSFERS.get(frame.color_trc)
    pixel_format = "rgb48le" if transfer else "rgb24"
    if (frame.interlaced_frame and frame.height > 1) or video.aperture != (1.0, 1.0):
        image = video.reformat(frame, format=pixel_format).to_ndarray()
        sides = zip(image.shape[1::-1], video.aperture, strict=True)
        column, row = (round(side * (1 - fraction) / 2) for side, fraction in sides)
        image = image[row : len(image) - row, column : image.shape[1] - column]
        image = cv2.resize(image[:: 2 if frame.interlaced_frame else 1], size, interpolation=cv2.INTER_AREA)
    else:
        image = video.reformat(frame, *size, format=pixel_format, interpolation="AREA").to_ndarray()
    if transfer:
        image = hdr.to_sdr(image, transfer, wide=frame.color_primaries != ColorPrimaries.BT709)
    return _rotate(image, frame)


def _rotate(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the display matrix (FFmpeg's libavutil/display.h): x' = a x + c y, y' = b x + d y."""
    # frame.side_data is stored in the frame and refers to it: the pixels would stay until garbage collection
    matrix: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # missing in its stub
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) < abs(b):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
