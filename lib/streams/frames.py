"""A clip's frames at a fixed rate, stored as JPEG bytes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.shards import Record
from lib.media.jpeg_frames import decode_frames as decode_frames
from lib.media.jpeg_frames import sample_frames as sample_frames
from lib.media.jpeg_frames import sample_windows
from lib.media.packets import Span
from lib.streams.base import RAW, Raw, Stream, StreamSettings


class Settings(StreamSettings):
    """fps: frames per second of presentation time; max_side: longest side in pixels; quality: JPEG quality."""

    fps: Annotated[float, Field(gt=0, le=60)]
    max_side: Annotated[int, Field(ge=64, le=8192)]
    quality: Annotated[int, Field(ge=1, le=100)]


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that samples a clip's frames."""
    return lambda raw: sample_frames(raw, settings.fps, settings.max_side, settings.quality)


def extract_windows(settings: Settings, raw: Raw, spans: Sequence[Span]) -> Iterator[Record]:
    """Yield the frames of windows of a clip, which is decoded once. It ends before a window that must be read separately."""
    return sample_windows(raw, spans, settings.fps, settings.max_side, settings.quality)


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return frames as RGB uint8 (K, 3, H, W)."""
    return np.stack(decode_frames(record, indices)).transpose(0, 3, 1, 2)


def select_frames(record: Record, indices: np.ndarray) -> Record:
    """Return the record with the frames `indices` (K,) only."""
    offsets, jpeg = record.arrays["offsets"][()], record.arrays["jpeg"][()]
    pieces = [jpeg[offsets[index] : offsets[index + 1]] for index in indices]
    arrays = {"times": record.arrays["times"][()][indices], "jpeg": np.concatenate(pieces)}
    return Record(record.clip, {**arrays, "offsets": np.cumsum([0, *map(len, pieces)])}, record.attributes)


def summary(folder: Path) -> dict[str, Any]:
    """Count the frames."""
    return {"frames": sum(map(len, shards.read_arrays(folder, "times")))}


def cut_frames(record: Record, steps: slice, start: float) -> Record:
    """Return the frames `steps` of a record; times begin at `start` seconds. Fewer than two frames are rejected."""
    times, offsets = record.arrays["times"][steps] - start, record.arrays["offsets"]
    if len(times) < 2:
        return Record(record.clip, rejected=f"frames: {len(times)} from {start:.1f} s on, flow needs 2")
    ends = offsets[steps.start : steps.stop + 1]
    return Record(
        record.clip,
        {"times": times, "jpeg": record.arrays["jpeg"][ends[0] : ends[-1]], "offsets": ends - ends[0]},
    )


def decode_all_frames(record: Record) -> np.ndarray:
    """Return all of a record's frames as RGB uint8 (T, H, W, 3)."""
    return np.stack(decode_frames(record, np.arange(len(record.arrays["times"]))))


STREAM = Stream(
    inputs=(RAW,),
    kind="pictures",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    summary=summary,
)
