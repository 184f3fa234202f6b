"""Open video files with PyAV and decode the frames that they show, by presentation time."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import av.stream
from av.video.reformatter import VideoReformatter

from lib.media.boxes import describe_damage, read_aperture

Span = tuple[float, float]
"""Begin and end of a clip in its file: seconds since the first frame shown; the end is excluded."""

STEP_TOLERANCE = 1e-6  # seconds
MAX_BACKWARD_LEAP = 1.0  # seconds
_MAX_GAP = 10.0  # seconds from one frame to the next
_FORMATS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,h264,hevc,m4v,obu,ivf,asf,flv,ogg,gif,mxf,nut,dv,rm,gxf,wtv,vc1,mjpeg,amv"
)
"""FFmpeg's names of video formats. Scripts and play lists are left out, because they name other files."""

_WITH_DURATION = frozenset({"mov", "matroska", "avi", "flv", "asf"})
"""FFmpeg's names of formats whose header contains the duration."""


class VideoError(Exception):
    """A clip that can't be used, and why."""


class UnexpectedFrameError(Exception):
    """A frame contradicts the packets' time stamps, or may have been decoded from damaged packets."""


class open_video:  # noqa: N801
    """Open a video file in a `with` block; FFmpeg's errors in it become VideoErrors that begin with `failure`.

    Only video formats are opened, and no file but this one. Raises VideoError if `path` is None.
    """

    def __init__(self, path: Path | None, failure: str) -> None:
        if path is None:
            raise VideoError("no video")
        self._path, self._failure = path, failure

    def __enter__(self) -> av.container.InputContainer:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        try:
            self._container = av.open(os.fspath(self._path.absolute()), options=options)
        except av.error.ArgumentError:
            raise VideoError("is not a video") from None
        except av.error.InvalidDataError:
            raise VideoError(f"{self._failure}: {describe_damage(self._path)}") from None
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"{self._failure}: {_one_line(error)}") from None
        return self._container

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        self._container.close()
        if isinstance(error, av.FFmpegError | ValueError):
            raise VideoError(f"{self._failure}: {_one_line(error)}") from None


def measure_duration(path: Path) -> float:
    """Return the seconds for which a video is shown. Reads time stamps only, which is fast.

    Infinite if the video has no time stamps. Raises VideoError if the file does not open or has no video stream.
    """
    with open_video(path, "cannot be read") as container:
        start, end = VideoTrack(container).find_limits()
    return end - start


def describe_cut(path: Path) -> str:
    """Return a sentence if a file ends clearly before the duration in its header, otherwise an empty string.

    All packets are read, and none is decoded. Raises VideoError if the file does not open.
    """
    with open_video(path, "cannot be read") as container:
        if container.duration is None or not _WITH_DURATION.intersection(container.format.name.split(",")):
            return ""
        start, duration = (container.start_time or 0) / av.time_base, container.duration / av.time_base
        video = choose_stream(container.streams.video)
        if container.format.name == "avi" and video is not None and video.average_rate:  # duration: of the frames there
            duration = max(duration, float(video.frames / video.average_rate))
        ends = (
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in container.demux()
            if packet.pts is not None and packet.size
        )
        last = max(ends, default=start) - start
    if last >= duration - max(1.0, 0.05 * duration):
        return ""
    return f"the file ends after {last:.1f} of {duration:.1f} s: was the recording or download cut off?"


def can_seek(container: av.container.InputContainer) -> bool:
    """Return whether a seek ends at a key frame and keeps the time stamps. Other containers are read from their start."""
    return bool({"mov", "matroska"}.intersection(container.format.name.split(",")))


def choose_stream(streams: Sequence[Any]) -> Any:
    """Return the stream that the container marks as default: of several, the stream with the most pixels; None if there is
    no stream.

    Covers and thumbnails are left out.
    """
    marks = av.stream.Disposition
    candidates = [
        stream for stream in streams if not stream.disposition & (marks.attached_pic | marks.timed_thumbnails)
    ]

    def rank(stream: Any) -> tuple[bool, int]:
        pixels = getattr(stream, "width", 0) * getattr(stream, "height", 0)
        return bool(stream.disposition & marks.default), pixels

    return max(candidates, key=rank, default=None)


class VideoTrack:
    """The video stream of an open file. `decode` yields its frames, and all other methods call it."""

    def __init__(self, container: av.container.InputContainer) -> None:
        stream = choose_stream(container.streams.video)
        if stream is None:
            raise VideoError("has no video stream")
        self._container, self.stream = container, stream
        stream.codec_context.thread_count = 1  # with more threads, damage looks different each time
        self.reformat = VideoReformatter().reformat  # shared by all frames: creating one takes as long as using it
        self.aperture = read_aperture(container, stream)
        self.step = 1 / float(stream.guessed_rate or stream.average_rate or 25)
        """Seconds from one frame to the next."""
        self.start: float | None = None
        """The stream's time of the first frame shown; None until a frame with a time stamp is decoded."""
        self.damaged = 0
        """Number of packets so far that did not decode."""
        self.ended = False
        """Whether the video ended before the end of the span."""
        self.wanted: frozenset[int] | None = None
        """Presentation times of the frames to decode; the decoder may skip others that no frame depends on. None: all."""

    def decode(self, begin: float | None = None) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the frames shown and their seconds since the first of them, in rising order.

        With `begin`, in seconds, it starts near the last key frame before. Frames that the container's edit list hides and
        frames that can't be decoded are left out. A frame without a time stamp follows the previous one at the stream's
        rate. Raises VideoError if the time stamps leap.
        """
        last = -self.step
        if begin is not None:
            self.seek(begin)
            last = math.nan
        context = self.stream.codec_context
        for packet in self._container.demux(self.stream):
            if self.wanted is not None:
                context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in self.wanted else "NONREF"
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                if self.wanted is not None and (self.damaged or frame.is_corrupt or frame.interlaced_frame):
                    raise UnexpectedFrameError
                if frame.time is None:
                    seconds = last + self.step
                else:
                    self.start = frame.time - (last + self.step) if self.start is None else self.start
                    seconds = frame.time - self.start
                if seconds - last > max(_MAX_GAP, 2 * self.step) or seconds < last - MAX_BACKWARD_LEAP:
                    raise VideoError(f"its time stamps leap by {seconds - last:.1f} s at {last:.1f} s")
                if seconds >= last or math.isnan(last):
                    yield seconds, frame
                    last = seconds
        if last < 0 and self.damaged:
            raise VideoError(f"cannot be decoded: {self.damaged} packets are damaged")

    def seek(self, seconds: float) -> None:
        """Continue at the container's last entry point before `seconds`, counted from the first frame shown.

        Raises VideoError if the video has no time stamps.
        """
        self._container.seek(math.floor((self.find_start() + seconds) / self.stream.time_base), stream=self.stream)
        self.damaged = 0

    def find_start(self) -> float:
        """Return the stream's time of the first frame shown. Raises VideoError if no frame has a time stamp."""
        frames = self.decode()
        while self.start is None and next(frames, None) is not None:
            pass
        if self.start is not None:
            return self.start
        raise VideoError("has no time stamps by which to find a part of it")

    def decode_span(self, span: Span | None) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the frames shown in a span and their seconds since its beginning; all frames if `span` is None.

        The first frame has time 0, even if it was shown before the span begins.
        """
        if span is None:
            yield from self.decode()
            return
        begin, end = span
        if can_seek(self._container):
            for margin in (0.0, 2.0, 20.0, begin):  # without an index a seek may end too late
                frames = self.decode(max(begin - margin, 0.0))
                on_show = next(frames, None)
                if on_show is not None and on_show[0] <= begin + STEP_TOLERANCE:
                    break
        else:
            frames = self.decode()
            on_show = next(frames, None)
        for seconds, frame in frames if on_show else ():
            if seconds >= end - STEP_TOLERANCE:
                break
            if seconds > begin + STEP_TOLERANCE:
                if on_show is not None:
                    yield 0.0, on_show[1]
                    on_show = None
                yield seconds - begin, frame
            else:
                on_show = seconds, frame
        else:
            self.ended = True
        hidden = self.ended and on_show is not None and on_show[0] + self.step < begin
        if on_show is not None and on_show[0] < end and not hidden:
            yield 0.0, on_show[1]

    def find_limits(self) -> tuple[float, float]:
        """Return the stream's times of the first frame shown and of the end of the last one.

        Only the packets up to the first frame with a time stamp are decoded.
        """
        for _ in self.decode():
            if self.start is not None:
                break
        start, end = self.start or 0.0, math.inf
        for packet in self._container.demux(self.stream):
            if packet.pts is not None and not packet.is_discard:
                seconds = float(packet.pts * packet.time_base) + self.step
                end = seconds if end == math.inf else max(end, seconds)
        return start, end

    def check_complete(self, path: Path, frames: int) -> None:
        """Raise VideoError if the file's index lists frames beyond the end of the file; `frames` were shown."""
        promised, size = self.stream.frames, path.stat().st_size
        if "mov" in self._container.format.name:  # for an edited video the index has only the frames that are shown
            entries = self.stream.index_entries
            promised, frames = len(entries), sum(entry.pos + entry.size <= size for entry in entries)
        if frames + self.damaged < promised:
            raise VideoError(f"is cut off: {frames} of {promised} frames are there")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
