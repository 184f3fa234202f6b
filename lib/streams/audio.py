"""A clip's sound as what networks of speech take: mel-frequency cepstral coefficients and the log-mel spectrogram."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import shards
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, StreamSettings

INPUTS = (RAW,)
KIND = "vectors"
ARRAYS = ("log_mel", "mfcc")

_FLOOR = 1e-10  # of power; -100 dB


class Settings(StreamSettings):
    """sample_rate: Hz; window, step: seconds; mels: bands; mfcc: coefficients."""

    sample_rate: Annotated[int, Field(ge=4000, le=192_000)]
    window: Annotated[float, Field(gt=0, le=1)]
    step: Annotated[float, Field(gt=0, le=1)]
    mels: Annotated[int, Field(ge=8, le=512)]
    mfcc: Annotated[int, Field(ge=1, le=512)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mfcc > self.mels:
            raise ValueError(f"mfcc = {self.mfcc}; allowed: up to mels = {self.mels}")
        if round(self.step * self.sample_rate) < 1 or round(self.window * self.sample_rate) < 2:
            raise ValueError(
                f"step = {self.step}, window = {self.window}; allowed: a sample or more, at {self.sample_rate} Hz"
            )
        return self


def maker(settings: Settings) -> Callable[[Raw], Record]:
    """Return what extracts a clip's features."""
    return lambda raw: features(raw, **settings.model_dump(exclude={"enabled"}))


def steps(record: Record, chosen: np.ndarray, array: str) -> np.ndarray:
    """Return windows of `log_mel` (K, mels) in dB or of `mfcc` (K, mfcc)."""
    return record.arrays[array][()][chosen]


def summary(folder: Path) -> dict[str, Any]:
    """Add up the hours of sound."""
    spans = [times[-1] - times[0] for times in shards.column(folder, "times")]
    return {"hours": round(sum(spans) / 3600, 3)}


def features(raw: Raw, sample_rate: int, window: float, step: float, mels: int, mfcc: int) -> Record:
    """Return a clip's `mfcc` (T, mfcc), `log_mel` (T, mels) in dB of full scale's power, and `times` (T,).

    Sound is mixed down and resampled to `sample_rate` Hz; `window` and `step` are in seconds. Each coefficient of `mfcc`
    has mean 0 and standard deviation 1 over the clip (0 if it is constant). `times` are the windows' centres in seconds
    since the first video frame. A clip without sound is refused.
    """
    import librosa  # who reads the stream needs neither this nor a decoder

    from lib.media import video

    if raw.path is None:
        return Record(raw.clip, refused="audio: no video")
    try:
        start, samples = video.sound(raw.path, sample_rate)
    except video.VideoError as error:
        return Record(raw.clip, refused=f"audio: {error}")
    length, hop = round(window * sample_rate), round(step * sample_rate)
    if len(samples) < length:
        return Record(raw.clip, refused=f"audio: {len(samples) / sample_rate:.3f} s of sound, audio.window is {window}")
    power = librosa.feature.melspectrogram(
        y=samples, sr=sample_rate, n_fft=length, hop_length=hop, n_mels=mels, center=False
    )
    log_mel = 10 * np.log10(np.maximum(power, _FLOOR))
    coefficients = librosa.feature.mfcc(S=log_mel, n_mfcc=mfcc)
    spread = coefficients.std(1, keepdims=True)
    standardised = (coefficients - coefficients.mean(1, keepdims=True)) / np.where(spread > 1e-6, spread, np.inf)
    times = start + (np.arange(log_mel.shape[1]) * hop + length / 2) / sample_rate
    return Record(raw.clip, {"mfcc": _rows(standardised), "log_mel": _rows(log_mel), "times": times})


def _rows(columns: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(columns.T, dtype=np.float32)
