"""A clip's audio features: mel-frequency cepstral coefficients (MFCC) and the log-mel spectrogram."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import shards
from lib.core.shards import Record
from lib.streams._mel import mel_power
from lib.streams.base import RAW, Raw, Stream, StreamSettings

_FLOOR = 1e-10  # of power; -100 dB
_BLOCK = 10_000  # number of windows whose spectra are in memory together


class Settings(StreamSettings):
    """sample_rate, filter_rate: in Hz. window, step: in seconds. mels, mfcc: numbers of mel bands and of coefficients.
    edges, top_db: see `compute_spectra`."""

    sample_rate: Annotated[int, Field(ge=4000, le=192_000)]
    filter_rate: Annotated[int, Field(ge=4000, le=192_000)] | None
    window: Annotated[float, Field(gt=0, le=1)]
    step: Annotated[float, Field(gt=0, le=1)]
    mels: Annotated[int, Field(ge=8, le=512)]
    mfcc: Annotated[int, Field(ge=1, le=512)]
    edges: Literal["inside", "padded"]
    top_db: Annotated[float, Field(gt=0, le=1000)] | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mfcc > self.mels:
            raise ValueError(f"mfcc = {self.mfcc}; allowed: up to mels = {self.mels}")
        if round(self.step * self.sample_rate) < 1 or round(self.window * self.sample_rate) < 2:
            raise ValueError(
                f"step = {self.step}, window = {self.window}; allowed: a step of at least 1 and a window of at least 2"
                f" samples at {self.sample_rate} Hz"
            )
        return self


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that computes a clip's features."""
    return lambda raw: compute_features(raw, settings)


def read_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return windows of `log_mel` (K, mels) in dB, or of `mfcc` (K, mfcc)."""
    return record.arrays[array][()][indices]


def summary(folder: Path) -> dict[str, Any]:
    """Return the hours of audio."""
    spans = [times[-1] - times[0] for times in shards.read_arrays(folder, "times")]
    return {"hours": round(sum(spans) / 3600, 3)}


def compute_features(raw: Raw, settings: Settings) -> Record:
    """Return a clip's `mfcc` (T, mfcc), `log_mel` (T, mels) in dB relative to full-scale power, and `times` (T,).

    Audio is mixed to one channel and resampled to `sample_rate` Hz. `times` are the windows' centres in seconds since the
    first video frame. A clip with less audio than one window is rejected.
    """
    from lib.media.audio import read_audio  # not needed to read the stream's shards
    from lib.media.packets import VideoError

    rate, window = settings.sample_rate, settings.window
    try:
        start, samples = read_audio(raw.path, rate, raw.span)
    except VideoError as error:
        return Record(raw.clip, refused=f"audio: {error}")
    length, hop = round(window * rate), round(settings.step * rate)
    if len(samples) < length:
        return Record(raw.clip, refused=f"audio: {len(samples) / rate:.3f} s of audio, audio.window is {window}")
    options = settings.model_dump(include={"mels", "mfcc", "edges", "top_db"})
    log_mel, coefficients = compute_spectra(samples, settings.filter_rate or rate, length, hop, **options)
    first = length / 2 if settings.edges == "inside" else 0
    times = start + (np.arange(len(log_mel)) * hop + first) / rate
    return Record(raw.clip, {"mfcc": coefficients, "log_mel": log_mel, "times": times})


def compute_spectra(
    samples: np.ndarray, rate: int, length: int, hop: int, mels: int, mfcc: int, edges: str, top_db: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-mel spectrogram (T, mels) in dB and the MFCC (T, mfcc) of `samples` (N,), float32 in [-1, 1].

    Windows have `length` samples, and one begins every `hop` samples; the mel filters are computed for `rate` Hz. With
    edges = "inside", windows lie completely in the audio; with "padded", they are centred on every `hop`-th sample, with
    silence outside. top_db: levels further than this below the clip's maximum are raised to that level.
    """
    from scipy.fft import dct  # not needed to read the stream's shards

    if edges == "padded":
        samples = np.pad(samples, length // 2)
    starts = range(0, len(samples) - length + 1, hop * _BLOCK)
    blocks = (samples[start : start + hop * (_BLOCK - 1) + length] for start in starts)
    power = np.concatenate([mel_power(block, rate, length, hop, mels) for block in blocks], axis=1)
    log_mel = 10 * np.log10(np.maximum(power, _FLOOR))
    if top_db is not None:
        log_mel = np.maximum(log_mel, log_mel.max() - top_db)
    return _rows(log_mel), _rows(dct(log_mel, axis=0, norm="ortho")[:mfcc])


def _rows(columns: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(columns.T, dtype=np.float32)


STREAM = Stream(
    inputs=(RAW,),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    arrays=("log_mel", "mfcc"),
    vectors="bands",
    summary=summary,
)
