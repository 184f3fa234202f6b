"""Films of any odd kind, written with PyAV packet by packet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

RATE = 16_000
MARK = 40
"""Levels of brightness between the frames of `numbered`."""


def picture(seconds: float, width: int = 160, height: int = 120) -> np.ndarray:
    """A picture that tells its time: its brightness rises by MARK a second from 10 on, with a darker frame around it."""
    shown = np.full((height, width, 3), round(10 + MARK * seconds), np.uint8)
    shown[: height // 8] = 5
    return shown


def level(shown: np.ndarray) -> float:
    """The seconds that a picture tells."""
    height, width = shown.shape[:2]
    return (float(shown[height // 4 : -height // 4, width // 4 : -width // 4].mean()) - 10) / MARK


def numbered(frames: int = 60, fps: float = 15, width: int = 160, height: int = 120, begin: float = 0.0) -> np.ndarray:
    return np.stack([picture(begin + index / fps, width, height) for index in range(frames)])


def tone(seconds: float, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@dataclass
class Track:
    """A stream of a file: its encoder's settings, and what is encoded, frames (T, H, W, 3) or samples (N,)."""

    content: np.ndarray
    codec: str = ""
    fps: int = 15
    begin: float = 0.0
    times: Sequence[float] | None = None
    options: dict[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    rate: int = RATE
    disposition: int = 0
    aspect: Fraction | None = None
    keep: Callable[[int, Any], bool] = lambda number, packet: True
    prepare: Callable[[Any], None] = lambda stream: None

    @property
    def is_film(self) -> bool:
        return self.content.ndim == 4


def write(path: Path, *tracks: Track, kind: str = "mp4", options: dict[str, str] | None = None) -> Path:
    """Encode the tracks, and mux their packets by time; `begin` seconds are added to all stamps of a track, and those of
    which `keep` (by number and packet) says no are left out."""
    with av.open(str(path), "w", format=kind, options=options or {}) as container:
        streams = [_stream(container, track) for track in tracks]
        packets = []
        for track, stream in zip(tracks, streams, strict=True):
            made = [packet for frame in [*_frames(track, stream), None] for packet in stream.encode(frame)]
            packets += [packet for number, packet in enumerate(made) if track.keep(number, packet)]
            for packet in made:
                shift = round(track.begin / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        container.start_encoding()
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    return path


def _stream(container: Any, track: Track) -> Any:
    if not track.is_film:
        stream = container.add_stream(track.codec or "aac", rate=track.rate, layout="mono")
    else:
        stream = container.add_stream(track.codec or "libx264", rate=track.fps)
        stream.height, stream.width = track.content.shape[1:3]
        stream.pix_fmt = track.pixels
        stream.codec_context.time_base = Fraction(1, 1000 if track.times else track.fps)
        if track.aspect:
            stream.codec_context.sample_aspect_ratio = track.aspect
        stream.options = {"preset": "veryfast", "threads": "1", **track.options} if not track.codec else track.options
    stream.disposition = track.disposition
    track.prepare(stream)
    return stream


def _frames(track: Track, stream: Any) -> list[Any]:
    if not track.is_film:
        frame = av.AudioFrame.from_ndarray(track.content[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = track.rate, 0, Fraction(1, track.rate)
        resampler = av.AudioResampler(stream.format, "mono", track.rate)
        return resampler.resample(frame)
    frames = []
    for index, shown in enumerate(track.content):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24")
        frame.pts = round(track.times[index] * 1000) if track.times else index
        frame.time_base = stream.codec_context.time_base
        frames.append(frame)
    return frames


def entries(path: Path, stream: int = 0) -> list[tuple[int, int]]:
    """Place and size of each packet of a stream in the file."""
    with av.open(str(path)) as container:
        return [(one.pos, one.size) for one in container.streams[stream].index_entries]


def patch(path: Path, *changes: tuple[int, bytes]) -> Path:
    """Write other bytes at places of a file."""
    content = bytearray(path.read_bytes())
    for place, new in changes:
        content[place : place + len(new)] = new
    path.write_bytes(content)
    return path


def larger(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.stack([cv2.resize(frame, (width, height)) for frame in frames])
