"""A clip's audio features: mel-frequency cepstral coefficients (MFCC) and the log-mel spectrogram."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import shards
from lib.core.shards import Record
from lib.streams import _spectra
from lib.streams._spectra import Bands
from lib.streams._spectra import compute_spectra as compute_spectra
from lib.streams.base import RAW, Raw, Stream, StreamSettings


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
    """Return a clip's record (`lib.streams._spectra.compute_features`)."""
    return _spectra.compute_features(raw, Bands(**settings.model_dump(exclude={"enabled"})))


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
