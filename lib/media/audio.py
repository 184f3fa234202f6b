"""Read the audio of a video file: one channel at one sample rate, aligned with the video."""

import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from lib.media.packets import MAX_BACKWARD_LEAP, Span, VideoError, VideoTrack, can_seek, choose_stream, open_video

_MAX_HOLE = 0.015  # seconds that may be missing before they are filled with silence; an AAC packet has 0.021 or more
_MAX_OVERRUN = 1.0  # seconds of audio after the last frame
_RUN_UP = 0.2  # seconds before the first wanted sample, which the decoder needs


def read_audio(path: Path | None, sample_rate: int, span: Span | None = None) -> tuple[float, np.ndarray]:
    """Return the start of the audio and its samples (N,), float32 in [-1, 1], one channel at `sample_rate` Hz.

    The start is in seconds since the first video frame, or since the beginning of `span`, a part of the video; only that
    part is decoded. Silence replaces samples that are missing by the time stamps, can't be decoded or are not finite. Audio
    long after the end of the video is left out. Raises VideoError if video or audio is missing or can't be decoded.
    """
    with open_video(path, "sound cannot be decoded") as container:
        video = VideoTrack(container)
        zero, end = (
            video.find_limits() if span is None else (video.find_start() + span[0], video.find_start() + span[1])
        )
        last = end + (_MAX_OVERRUN if span is None else 0)
    with open_video(path, "sound cannot be decoded") as container:
        stream = choose_stream(container.streams.audio)
        if stream is None:
            raise VideoError("has no sound")
        early = math.floor((zero - _RUN_UP) / stream.time_base)
        if span is not None and early > (stream.start_time or 0) and can_seek(container):
            container.seek(early, stream=stream)
        pieces, start, seconds = _decode_pieces(container, stream, sample_rate, last)
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


def _decode_pieces(
    container: av.container.InputContainer, stream: av.AudioStream, sample_rate: int, last: float
) -> tuple[list[np.ndarray], float | None, float]:
    """Return consecutive pieces of resampled audio up to the stream's time `last`, holes filled with silence.

    Also returns the stream's time of the first sample, None without time stamps, and the number of seconds decoded.
    """
    pieces: list[np.ndarray] = []
    start: float | None = None
    resampler, seconds = _Resampler(sample_rate), 0.0
    for frame in _decode(container, stream):
        if frame.time is not None:
            start = frame.time - seconds if start is None else start
            late = frame.time - start - seconds
            if frame.time >= last:
                break
            if late < -MAX_BACKWARD_LEAP:
                raise VideoError(f"sound: its time stamps leap by {late:.1f} s at {seconds:.1f} s")
            if late > _MAX_HOLE:
                pieces += resampler.flush()
                seconds += late
                pieces.append(np.zeros(max(round(seconds * sample_rate) - sum(map(len, pieces)), 0), np.float32))
        seconds += frame.samples / frame.sample_rate
        pieces += resampler(frame)
    return pieces + resampler.flush(), start, seconds


class _Resampler:
    """Converts audio frames to one channel at one rate; format, layout and rate may change from frame to frame."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None

    def __call__(self, frame: av.AudioFrame) -> list[np.ndarray]:
        """Return the samples that are ready, in pieces (N,)."""
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        before = self.flush() if kind != self._format else []
        self._resampler, self._format = self._resampler or av.AudioResampler("fltp", "mono", self._rate), kind
        return before + [piece.to_ndarray()[0] for piece in self._resampler.resample(_clean(frame))]

    def flush(self) -> list[np.ndarray]:
        """Return the remaining samples and start again with the next frame."""
        if self._resampler is None:
            return []
        resampler, self._resampler = self._resampler, None
        return [piece.to_ndarray()[0] for piece in resampler.resample(None)]


def _decode(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Yield the frames of an audio stream, except those that can't be decoded."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _clean(frame: av.AudioFrame) -> av.AudioFrame:
    """Return a frame with silence for samples that are not finite, and others clipped to full scale, as in 16 bits."""
    values: np.ndarray = frame.to_ndarray()
    if values.dtype.kind != "f" or np.abs(values).max(initial=0) <= 1:  # False for NaN
        return frame
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(-1, 1)
    cleaned = av.AudioFrame.from_ndarray(values, format=frame.format.name, layout=frame.layout.name)
    cleaned.sample_rate, cleaned.pts, cleaned.time_base = frame.sample_rate, frame.pts, frame.time_base
    return cleaned
