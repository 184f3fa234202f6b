"""A clip's audio samples in chunks of 20 ms, for encoders that read audio itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, Stream, StreamSettings

CHUNK = 0.02  # seconds: an output of wav2vec 2.0, HuBERT and WavLM
_FULL_SCALE = 32_768


class Settings(StreamSettings):
    """sample_rate: in Hz."""

    sample_rate: Annotated[int, Field(ge=4000, le=192_000)]


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that reads a clip's audio."""
    return lambda raw: read_waveform(raw, settings.sample_rate)


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return chunks (K, N) of audio samples, float32 in [-1, 1]."""
    samples = record.arrays["samples"][()][indices]
    return (samples / np.float32(_FULL_SCALE)).astype(np.float32)


def summary(folder: Path) -> dict[str, Any]:
    """Return the hours of audio."""
    return {"hours": round(sum(map(len, shards.read_arrays(folder, "times"))) * CHUNK / 3600, 3)}


def read_waveform(raw: Raw, sample_rate: int) -> Record:
    """Return a clip's `samples`, int16 (T, N), in consecutive chunks of `CHUNK` seconds, and `times` (T,).

    Audio is mixed to one channel and resampled to `sample_rate` Hz. The last chunk is left out if it is incomplete. `times`
    are the centres of the chunks in seconds since the first video frame. A clip with less audio than one chunk is rejected.
    """
    from lib.media.audio import read_audio  # not needed to read the stream's shards
    from lib.media.packets import VideoError

    try:
        start, audio = read_audio(raw.path, sample_rate, raw.span)
    except VideoError as error:
        return Record(raw.clip, rejected=f"waveform: {error}")
    length = round(CHUNK * sample_rate)
    count = len(audio) // length
    if not count:
        return Record(raw.clip, rejected=f"waveform: {len(audio) / sample_rate:.3f} s of audio, a chunk has {CHUNK} s")
    levels = np.rint(audio[: count * length] * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE - 1)
    times = start + (np.arange(count) + 0.5) * length / sample_rate
    return Record(raw.clip, {"samples": levels.astype(np.int16).reshape(count, length), "times": times})


STREAM = Stream(
    inputs=(RAW,),
    kind="waveform",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    summary=summary,
)
