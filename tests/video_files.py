"""Write video files of unusual kinds with PyAV, packet by packet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from lib.media.writing import write_video
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render

RATE = 16_000
MARK = 40
"""Increase of the brightness per second in the frames of `timed_frames`."""


def draw_image(seconds: float, width: int = 160, height: int = 120) -> np.ndarray:
    """An image whose brightness encodes its time: 10 + MARK * seconds, with a dark bar at the top."""
    image = np.full((height, width, 3), round(10 + MARK * seconds), np.uint8)
    image[: height // 8] = 5
    return image


def read_time(image: np.ndarray) -> float:
    """Return the time in seconds that the brightness of an image encodes."""
    height, width = image.shape[:2]
    return (float(image[height // 4 : -height // 4, width // 4 : -width // 4].mean()) - 10) / MARK


def timed_frames(
    frames: int = 60, fps: float = 15, width: int = 160, height: int = 120, begin: float = 0.0
) -> np.ndarray:
    """Frames (T, H, W, 3) whose brightness encodes their times."""
    return np.stack([draw_image(begin + index / fps, width, height) for index in range(frames)])


def make_tone(seconds: float, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@dataclass
class Track:
    """A stream of a file: its content, frames (T, H, W, 3) or samples (N,), and the settings of its encoder."""

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
    def is_video(self) -> bool:
        return self.content.ndim == 4


def write_video_file(path: Path, *tracks: Track, kind: str = "mp4", options: dict[str, str] | None = None) -> Path:
    """Encode the tracks and mux their packets by time.

    `begin` seconds are added to all time stamps of a track. Packets for which `keep(number, packet)` is false are omitted.
    """
    with av.open(str(path), "w", format=kind, options=options or {}) as container:
        streams = [_stream(container, track) for track in tracks]
        packets = []
        for track, stream in zip(tracks, streams, strict=True):
            encoded = [packet for frame in [*_frames(track, stream), None] for packet in stream.encode(frame)]
            packets += [packet for number, packet in enumerate(encoded) if track.keep(number, packet)]
            for packet in encoded:
                shift = round(track.begin / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        container.start_encoding()
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    return path


def _stream(container: Any, track: Track) -> Any:
    if not track.is_video:
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
    if not track.is_video:
        frame = av.AudioFrame.from_ndarray(track.content[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = track.rate, 0, Fraction(1, track.rate)
        resampler = av.AudioResampler(stream.format, "mono", track.rate)
        return resampler.resample(frame)
    frames = []
    for index, image in enumerate(track.content):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = round(track.times[index] * 1000) if track.times else index
        frame.time_base = stream.codec_context.time_base
        frames.append(frame)
    return frames


def find_packets(path: Path, stream: int = 0) -> list[tuple[int, int]]:
    """Return the position and the size in bytes of each packet of a stream."""
    with av.open(str(path)) as container:
        return [(entry.pos, entry.size) for entry in container.streams[stream].index_entries]


def overwrite(path: Path, *changes: tuple[int, bytes]) -> Path:
    """Overwrite bytes at positions of a file."""
    content = bytearray(path.read_bytes())
    for position, new in changes:
        content[position : position + len(new)] = new
    path.write_bytes(content)
    return path


def write_talking_head(path: Path, identity: int, performance: Performance, seconds: float, fps: int = 15) -> Path:
    """Write a video of a rendered head with its voice."""
    frames, voice = render(Identity(identity), performance, seconds, fps)
    write_video(path, frames, fps, voice, SAMPLE_RATE)
    return path


def resize_frames(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.stack([cv2.resize(frame, (width, height)) for frame in frames])


def write_conversation(path: Path, turns: Sequence[int], seconds: float, fps: int) -> np.ndarray:
    """Write rendered heads side by side who speak by turns, and return who speaks in each frame (T,), -1 for nobody.

    turns: the person, from the left, who speaks in each part of equal length. The others' mouths are still. Each person
    alone, with the same audio, is written to 0-NAME, 1-NAME and so on.
    """
    speaker = np.array(turns)[np.arange(round(seconds * fps)) * len(turns) // round(seconds * fps)]
    videos, voice = [], np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    frame = np.minimum(np.arange(len(voice)) * fps // SAMPLE_RATE, len(speaker) - 1)
    for person in range(max(turns) + 1):
        talking, own_voice = render(Identity(person + 10), Performance(0.5 - person, 2.0, 0.3, person), seconds, fps)
        silent, _ = render(Identity(person + 10), Performance(0.5 - person, 0.0, 0.3, person), seconds, fps)
        videos.append(np.where((speaker == person)[:, None, None, None], talking, silent))
        voice += np.where(speaker[frame] == person, own_voice[: len(voice)], 0)
    write_video(path, np.concatenate(videos, axis=2), fps, voice, SAMPLE_RATE)
    for person, video in enumerate(videos):
        write_video(path.with_name(f"{person}-{path.name}"), video, fps, voice, SAMPLE_RATE)
    return speaker
