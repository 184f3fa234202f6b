"""Read video files with PyAV: what a clip is made of, its frames at a fixed rate by presentation time, and its sound."""

import math
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.stream
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter

from lib.media import hdr
from lib.media.damage import describe_damage

_FORMATS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,h264,hevc,m4v,obu,ivf,asf,flv,ogg,gif,mxf,nut,dv,rm,gxf,wtv,vc1,mjpeg,amv"
)
"""FFmpeg's names of formats that are videos; scripts and play lists, which name other files, are not among them."""
_TRANSFERS: dict[int, hdr.Transfer] = {ColorTrc.SMPTE2084: "pq", ColorTrc.ARIB_STD_B67: "hlg"}
_SKIPPING = frozenset({"h264"})
"""FFmpeg's decoders that leave out exactly the frames that no other is made of."""
_STEP_TOLERANCE = 1e-6  # seconds
_MAX_GAP = 10.0  # seconds from a frame to the next
_MAX_BACK = 1.0  # seconds
_MAX_ASPECT = 16  # of a pixel
_HOLE = 0.015  # seconds that sound may lack without silence in their place; an AAC packet has 0.021 or more
_LONGER = 1.0  # seconds of sound after the last frame
_RUN_UP = 0.2  # seconds of sound before the first that is wanted, which its decoder needs

Span = tuple[float, float]
"""From when to when a clip lasts in its file: seconds since the first frame shown, the last not included."""


class VideoError(Exception):
    """A clip that cannot be used, and why."""


class _NotAsPlannedError(Exception):
    """A frame is not what the packets' time stamps say, or may have been made of damaged ones."""


@dataclass(frozen=True)
class Probe:
    """What a clip holds: seconds, frames a second, frames and pixels as shown, whether it has sound, and how many frames did
    not decode or not without damage, those after a damaged one that are made from it included."""

    duration: float
    frames: int
    fps: float
    width: int
    height: int
    audio: bool
    damaged: int = 0


class _Film:
    """The film in an open file, and when which of its frames is shown: all else asks `shown`."""

    def __init__(self, container: av.container.InputContainer) -> None:
        stream = _chosen(container.streams.video)
        if stream is None:
            raise VideoError("has no video stream")
        self._container, self.stream = container, stream
        stream.codec_context.thread_count = 1  # with more, damage looks different each time
        self.reformat = VideoReformatter().reformat  # one for all frames: it takes as long to make as to use
        self.aperture = _aperture(container, stream)
        self._step = 1 / float(stream.guessed_rate or stream.average_rate or 25)
        self.zero: float | None = None
        """The stream's time of the first frame shown, once a frame has told it."""
        self.damaged = 0
        """Packets so far that did not decode."""
        self.over = False
        """Whether the film ended within the span."""
        self.wanted: frozenset[int] | None = None
        """Presentation times of the frames that are looked at, if others, of which no frame is made, need no decoding."""

    def shown(self, begin: float | None = None) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the frames that are shown and their seconds since the first of them, in rising order.

        With `begin`, seconds, from about the last key frame before it on. What edits of the container hide is not shown, nor
        what can't be decoded. A frame without a time stamp follows the one before at the stream's rate. Raises VideoError
        if the stamps leap.
        """
        last = -self._step
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
                    raise _NotAsPlannedError
                if frame.time is None:
                    seconds = last + self._step
                else:
                    self.zero = frame.time - (last + self._step) if self.zero is None else self.zero
                    seconds = frame.time - self.zero
                if seconds - last > max(_MAX_GAP, 2 * self._step) or seconds < last - _MAX_BACK:
                    raise VideoError(f"its time stamps leap by {seconds - last:.1f} s at {last:.1f} s")
                if seconds >= last or math.isnan(last):
                    yield seconds, frame
                    last = seconds
        if last < 0 and self.damaged:
            raise VideoError(f"cannot be decoded: {self.damaged} packets are damaged")

    def seek(self, seconds: float) -> None:
        """Go on reading at the last place before `seconds`, since the first frame shown, that the container knows.

        Raises VideoError if the film has no time stamps.
        """
        self._container.seek(math.floor((self.first() + seconds) / self.stream.time_base), stream=self.stream)
        self.damaged = 0

    def first(self) -> float:
        """Return the stream's time at which the first frame is shown. Raises VideoError if no frame has a time stamp."""
        frames = self.shown()
        while self.zero is None and next(frames, None) is not None:
            pass
        if self.zero is not None:
            return self.zero
        raise VideoError("has no time stamps by which to find a part of it")

    def within(self, span: Span | None) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the frames that are shown in a span, all without one, and their seconds since its beginning; the first,
        which may have been on show before, at 0."""
        if span is None:
            yield from self.shown()
            return
        begin, end = span
        if _can_seek(self._container):
            for early in (0.0, 2.0, 20.0, begin):  # without an index it may come out too late
                frames = self.shown(max(begin - early, 0.0))
                on_show = next(frames, None)
                if on_show is not None and on_show[0] <= begin + _STEP_TOLERANCE:
                    break
        else:
            frames = self.shown()
            on_show = next(frames, None)
        for seconds, frame in frames if on_show else ():
            if seconds >= end - _STEP_TOLERANCE:
                break
            if seconds > begin + _STEP_TOLERANCE:
                if on_show is not None:
                    yield 0.0, on_show[1]
                    on_show = None
                yield seconds - begin, frame
            else:
                on_show = seconds, frame
        else:
            self.over = True
        ended = self.over and on_show is not None and on_show[0] + self._step < begin
        if on_show is not None and on_show[0] < end and not ended:
            yield 0.0, on_show[1]

    def span(self) -> tuple[float, float]:
        """Return the stream's times at which the first frame is shown and the last one ends; only the packets up to the
        first stamped frame are decoded."""
        for _ in self.shown():
            if self.zero is not None:
                break
        zero, end = self.zero or 0.0, math.inf
        for packet in self._container.demux(self.stream):
            if packet.pts is not None and not packet.is_discard:
                seconds = float(packet.pts * packet.time_base) + self._step
                end = seconds if end == math.inf else max(end, seconds)
        return zero, end

    def refuse_if_cut_off(self, path: Path, there: int) -> None:
        """Raise VideoError if the file's index promises frames that lie beyond its end; `there` are shown."""
        promised, size = self.stream.frames, path.stat().st_size
        if "mov" in self._container.format.name:  # of an edited film the index has what is shown
            entries = self.stream.index_entries
            promised, there = len(entries), sum(entry.pos + entry.size <= size for entry in entries)
        if there + self.damaged < promised:
            raise VideoError(f"is cut off: {there} of {promised} frames are there")


def probe(path: Path, span: Span | None = None) -> Probe:
    """Decode the film, or of a clip that lasts for a `span` of it that part.

    Where the decoder conceals damage (FFmpeg tells of it in H.264 and MPEG-4, not in HEVC and MPEG-2), all frames up to the
    next key frame count as damaged; of a B frame, from which few are made, it alone. Raises VideoError if the file does not
    open, has no film, holds no frame, or ends before its index or the span says.
    """
    times: list[float] = []
    width = height = damaged = 0
    smeared = False
    begin, end = span or (0.0, math.inf)
    with _opened(path, "cannot be read") as container:
        film = _Film(container)
        for seconds, frame in film.within(span):
            if not times:
                height, width = _picture(film, frame, _size(film, frame, None)).shape[:2]
            times.append(seconds)
            smeared = (smeared and not frame.key_frame) or (frame.is_corrupt and frame.pict_type != PictureType.B)
            damaged += smeared or frame.is_corrupt
        if span is None:
            film.refuse_if_cut_off(path, len(times))
        elif not times:
            raise VideoError(f"begins at {begin:.1f} s, after the end of its video")
        elif film.over and begin + times[-1] < end - _LONGER:
            raise VideoError(f"ends at {end:.1f} s, its video at {begin + times[-1]:.1f} s")
        audio = bool(container.streams.audio)
    if not times:
        raise VideoError("holds no frame")
    fps = (len(times) - 1) / times[-1] if times[-1] > 0 else 0.0
    duration = min(times[-1] + (1 / fps if fps else 0.0), end - begin)
    return Probe(duration, len(times), fps, width, height, audio, film.damaged + damaged)


def seconds(path: Path) -> float:
    """Return how long a film is shown, by its time stamps alone, which takes little time.

    Raises VideoError if the file does not open or has no film; infinite without time stamps.
    """
    with _opened(path, "cannot be read") as container:
        begin, end = _Film(container).span()
    return end - begin


def sample(
    path: Path, fps: float, max_side: int | None = None, span: Span | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds since the clip's first frame, RGB uint8 (H, W, 3)) `fps` times a second of presentation time.

    At each instant k / fps the frame is the one on show: the last whose presentation time has come, whatever the
    file's own rate. All are of the first one's size as shown; if its longer side exceeds `max_side`, of that scaled down.
    A clip may last for a `span` of the film alone: instants count from its beginning, and the film is decoded from the last
    key frame before. Of a whole film frames that are never on show, and of which no other is made, are not decoded, where
    that gives the same pictures. Raises VideoError if decoding fails on the way.
    """
    done = 0
    if span is None and (plan := _plan(path, fps)):
        try:
            for one in _sample(path, fps, max_side, None, plan):
                yield one
                done += 1
            return
        except (_NotAsPlannedError, VideoError):  # what is left out may look like a leap
            pass
    yield from islice(_sample(path, fps, max_side, span, []), done, None)


def _plan(path: Path, fps: float) -> list[int]:
    """Return by the packets' stamps the presentation time, in the stream's units, of the frame on show at each instant, then
    that of the film's last. Empty where stamps don't tell, or the codec is none whose frames are skipped exactly."""
    with _opened(path, "cannot be decoded") as container:
        stream = _Film(container).stream
        if stream.codec_context.name not in _SKIPPING:
            return []
        stamps = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = sorted(stamp for stamp in stamps if stamp is not None)
        if len(times) < max(len(stamps), 2) or len(set(times)) < len(times):
            return []
        seconds = np.array([float((stamp - times[0]) * stream.time_base) for stamp in times])
    instants = np.arange(math.ceil(seconds[-1] * fps + 1)) / fps
    on_show = np.searchsorted(seconds, instants + _STEP_TOLERANCE, "right") - 1
    return [times[at] for at in on_show] + [times[-1]]


def _sample(
    path: Path, fps: float, max_side: int | None, span: Span | None, plan: Sequence[int]
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield what `sample` does; with a plan only the frames that it has are decoded, and those they are made of. Raises
    _NotAsPlannedError where it does not hold."""
    with _opened(path, "cannot be decoded") as container:
        film = _Film(container)
        film.wanted = frozenset(plan) if plan else None
        before: av.VideoFrame | None = None
        size, index, now = (0, 0), 0, 0.0

        def shown(frame: av.VideoFrame) -> tuple[float, np.ndarray]:
            if plan and (index >= len(plan) or frame.pts != plan[index]):
                raise _NotAsPlannedError
            return index / fps, _picture(film, frame, size)

        for now, frame in film.within(span):
            if before is None:
                size = _size(film, frame, max_side)
            while before is not None and index / fps < now - _STEP_TOLERANCE:
                yield shown(before)
                index += 1
            before = frame
        if span is not None and not film.over:  # the last one stays on show until the end
            now = span[1] - span[0] - 2 * _STEP_TOLERANCE
        while before is not None and index / fps <= now + _STEP_TOLERANCE:
            yield shown(before)
            index += 1


def sound(path: Path, sample_rate: int, span: Span | None = None) -> tuple[float, np.ndarray]:
    """Return the sound, mixed down to one channel at `sample_rate` Hz: the seconds from the first video frame to its first
    sample, and the samples, float32 in [-1, 1].

    What is missing by the time stamps, can't be decoded or is no number is silence; what comes long after the film is left
    out. Of a clip that lasts for a `span` of the film only that part is decoded, and seconds count from its beginning.
    Raises VideoError if there is none or it can't be decoded.
    """
    pieces: list[np.ndarray] = []
    start: float | None = None
    with _opened(path, "sound cannot be decoded") as container:
        film = _Film(container)
        zero, end = film.span() if span is None else (film.first() + span[0], film.first() + span[1])
        last = end + (_LONGER if span is None else 0)
    with _opened(path, "sound cannot be decoded") as container:
        stream = _chosen(container.streams.audio)
        if stream is None:
            raise VideoError("has no sound")
        early = math.floor((zero - _RUN_UP) / stream.time_base)
        if span is not None and early > (stream.start_time or 0) and _can_seek(container):
            container.seek(early, stream=stream)
        resampler, seconds = _Resampler(sample_rate), 0.0  # of sound so far
        for frame in _heard(container, stream):
            if frame.time is not None:
                start = frame.time - seconds if start is None else start
                late = frame.time - start - seconds
                if frame.time >= last:
                    break
                if late < -_MAX_BACK:
                    raise VideoError(f"sound: its time stamps leap by {late:.1f} s at {seconds:.1f} s")
                if late > _HOLE:
                    pieces += resampler.rest()
                    seconds += late
                    pieces.append(np.zeros(max(round(seconds * sample_rate) - sum(map(len, pieces)), 0), np.float32))
            seconds += frame.samples / frame.sample_rate
            pieces += resampler(frame)
        pieces += resampler.rest()
    if not pieces:
        raise VideoError("has no sound")
    samples, start = np.concatenate(pieces), zero if start is None else start
    if start + seconds > last:
        samples = samples[: max(round((end - start) * sample_rate), 0)]
    if span is not None and start < zero:
        samples, start = samples[round((zero - start) * sample_rate) :], zero
    if not len(samples):
        raise VideoError("has no sound")
    return start - zero, samples


class _Resampler:
    """One channel at one rate of any frames of sound, which may change in kind."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None

    def __call__(self, frame: av.AudioFrame) -> list[np.ndarray]:
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        before = self.rest() if kind != self._kind else []
        self._resampler, self._kind = self._resampler or av.AudioResampler("fltp", "mono", self._rate), kind
        return before + [piece.to_ndarray()[0] for piece in self._resampler.resample(_finite(frame))]

    def rest(self) -> list[np.ndarray]:
        """Return what is still in it, and begin anew."""
        if self._resampler is None:
            return []
        resampler, self._resampler = self._resampler, None
        return [piece.to_ndarray()[0] for piece in resampler.resample(None)]


def _heard(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _finite(frame: av.AudioFrame) -> av.AudioFrame:
    """Return the frame with silence for samples that are no numbers, and those beyond full scale clipped, as in 16 bits."""
    values: np.ndarray = frame.to_ndarray()
    if values.dtype.kind != "f" or np.abs(values).max(initial=0) <= 1:  # not so, of NaN
        return frame
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(-1, 1)
    finite = av.AudioFrame.from_ndarray(values, format=frame.format.name, layout=frame.layout.name)
    finite.sample_rate, finite.pts, finite.time_base = frame.sample_rate, frame.pts, frame.time_base
    return finite


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


class _opened:  # noqa: N801
    """A context with the open file; FFmpeg's errors in it become VideoError, which say `what`.

    Only formats of videos are opened, and none but this file.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what

    def __enter__(self) -> av.container.InputContainer:
        only = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        try:
            self._container = av.open(os.fspath(self._path.absolute()), options=only)
        except av.error.ArgumentError:
            raise VideoError("is no video") from None
        except av.error.InvalidDataError:
            raise VideoError(f"{self._what}: {describe_damage(self._path)}") from None
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"{self._what}: {_text(error)}") from None
        return self._container

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        self._container.close()
        if isinstance(error, av.FFmpegError | ValueError):
            raise VideoError(f"{self._what}: {_text(error)}") from None


def _can_seek(container: av.container.InputContainer) -> bool:
    """Whether a seek ends at a key frame, and time stamps after it are as before; other containers are read through."""
    return bool({"mov", "matroska"}.intersection(container.format.name.split(",")))


def _chosen(streams: Sequence[Any]) -> Any:
    """Return the stream that the container marks as default, among several the one with the most pixels, or None; covers
    and thumbnails are no film."""
    marks = av.stream.Disposition
    films = [one for one in streams if not one.disposition & (marks.attached_pic | marks.timed_thumbnails)]
    return max(
        films,
        key=lambda one: (bool(one.disposition & marks.default), getattr(one, "width", 0) * getattr(one, "height", 0)),
        default=None,
    )


def _aperture(container: av.container.InputContainer, stream: av.VideoStream) -> tuple[float, float]:
    """Return which shares of the width and height are shown around the centre (ISO/IEC 14496-12, clap; offsets are 0 in
    all but hand-made files, and are left out)."""
    if "mov" not in container.format.name:
        return 1.0, 1.0
    with Path(container.name).open("rb") as file:
        places = [(0, os.fstat(file.fileno()).st_size)]
        for kind, header in ((b"moov", 8), (b"trak", 8), (b"mdia", 8), (b"minf", 8), (b"stbl", 8), (b"stsd", 16)):
            places = [(at + header, end) for place in places for name, at, end in _boxes(file, *place) if name == kind]
            places = places[stream.index : stream.index + 1] if kind == b"trak" else places
        for _, entry, entry_end in (box for place in places for box in _boxes(file, *place)):
            for name, at, end in _boxes(file, entry + 86, entry_end):
                if name == b"clap" and end - at >= 40:
                    file.seek(at + 8)
                    width, by, height, by_height = struct.unpack(">4I", file.read(16))
                    stored = stream.width * by, stream.height * by_height
                    if 0 < width <= stored[0] and 0 < height <= stored[1]:
                        return width / stored[0], height / stored[1]
    return 1.0, 1.0


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, beginning and end of each box between two places of a file."""
    while at + 8 <= end:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:  # the size stands behind the name, in 64 bits
            size = int.from_bytes(file.read(8), "big")
        size = size or end - at
        if size < 8 or at + size > end:
            return
        yield name, at, at + size
        at += size


def _size(film: _Film, frame: av.VideoFrame, max_side: int | None) -> tuple[int, int]:
    """Return the width and height, before it is turned, of what is shown of a frame."""
    aspect = film.stream.sample_aspect_ratio or Fraction(1)
    width, height = frame.width * film.aperture[0], frame.height * film.aperture[1]
    width = width * float(aspect) if 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT else width
    scale = min(1.0, max_side / max(width, height)) if max_side else 1.0
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _picture(film: _Film, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Return what is shown of a frame, RGB uint8 (H, W, 3); of interlaced fields one."""
    transfer = _TRANSFERS.get(frame.color_trc)
    values = "rgb48le" if transfer else "rgb24"
    if (frame.interlaced_frame and frame.height > 1) or film.aperture != (1.0, 1.0):
        picture = film.reformat(frame, format=values).to_ndarray()
        sides = zip(picture.shape[1::-1], film.aperture, strict=True)
        left, top = (round(side * (1 - share) / 2) for side, share in sides)
        picture = picture[top : len(picture) - top, left : picture.shape[1] - left]
        picture = cv2.resize(picture[:: 2 if frame.interlaced_frame else 1], size, interpolation=cv2.INTER_AREA)
    else:
        picture = film.reformat(frame, *size, format=values, interpolation="AREA").to_ndarray()
    if transfer:
        picture = hdr.to_sdr(picture, transfer, wide=frame.color_primaries != ColorPrimaries.BT709)
    return _oriented(picture, frame)


def _oriented(picture: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the display matrix (FFmpeg's libavutil/display.h): x' = a x + c y, y' = b x + d y."""
    # frame.side_data would stay in the frame, which is in it: its pixels were kept until garbage is looked for
    matrix: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # its stub lacks it
    if matrix is None:
        return picture
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) < abs(b):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _text(error: Exception) -> str:
    return " ".join(str(error).split())
