"""The audio features of a clip, by NumPy alone: log-mel spectrogram and mel-frequency cepstral coefficients (MFCC)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.core.records import Raw, Record
from lib.media.audio import read_audio
from lib.media.packets import VideoError
from lib.streams._mel import mel_power

_FLOOR = 1e-10  # of power; -100 dB
_BLOCK = 10_000  # number of windows whose spectra are in memory together


@dataclass(frozen=True)
class Bands:
    """The settings of the stream audio (`lib.streams.audio.Settings`)."""

    sample_rate: int
    filter_rate: int | None
    window: float
    step: float
    mels: int
    mfcc: int
    edges: str
    top_db: float | None


def compute_features(raw: Raw, bands: Bands) -> Record:
    """Return a clip's `mfcc` (T, mfcc), `log_mel` (T, mels) in dB relative to full-scale power, and `times` (T,).

    Audio is mixed to one channel and resampled to `sample_rate` Hz. `times` are the windows' centres in seconds since the
    first video frame. A clip with less audio than one window is rejected.
    """
    rate, window = bands.sample_rate, bands.window
    try:
        start, samples = read_audio(raw.path, rate, raw.span)
    except VideoError as error:
        return Record(raw.clip, rejected=f"audio: {error}")
    length, hop = round(window * rate), round(bands.step * rate)
    if len(samples) < length:
        return Record(raw.clip, rejected=f"audio: {len(samples) / rate:.3f} s of audio, audio.window is {window}")
    options: dict[str, Any] = {"mels": bands.mels, "mfcc": bands.mfcc, "edges": bands.edges, "top_db": bands.top_db}
    log_mel, coefficients = compute_spectra(samples, bands.filter_rate or rate, length, hop, **options)
    first = length / 2 if bands.edges == "inside" else 0
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
    if edges == "padded":
        samples = np.pad(samples, length // 2)
    starts = range(0, len(samples) - length + 1, hop * _BLOCK)
    blocks = (samples[start : start + hop * (_BLOCK - 1) + length] for start in starts)
    power = np.concatenate([mel_power(block, rate, length, hop, mels) for block in blocks], axis=1)
    log_mel = 10 * np.log10(np.maximum(power, _FLOOR))
    if top_db is not None:
        log_mel = np.maximum(log_mel, log_mel.max() - top_db)
    return _rows(log_mel), _rows(_make_cosines(mels)[:mfcc] @ log_mel)


def _make_cosines(bands: int) -> np.ndarray:
    """Return the matrix (M, M) of the orthonormal cosine transform of type 2 of M = `bands` numbers."""
    cosines = np.cos(np.pi / bands * np.arange(bands)[:, None] * (np.arange(bands) + 0.5)) * np.sqrt(2 / bands)
    cosines[0] = np.sqrt(1 / bands)
    return cosines


def _rows(columns: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(columns.T, dtype=np.float32)
