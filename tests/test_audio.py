"""Audio features of tones, clicks and silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft

from lib.core import imports
from lib.core.shards import Record
from lib.media.writing import write_video
from lib.streams import _spectra, audio
from lib.streams._mel import mel_frequencies, mel_power
from lib.streams.base import Raw

RATE = 16_000
AUDIO_SETTINGS: dict[str, Any] = {
    "sample_rate": RATE, "filter_rate": None, "window": 0.025, "step": 0.01, "mels": 64, "mfcc": 24, "edges": "inside",
    "top_db": None,
}  # fmt: skip
SECONDS = np.arange(2 * RATE) / RATE


def extract_audio(folder: Path, samples: np.ndarray, rate: int = RATE, **settings: object) -> Record:
    images = np.full((30, 64, 64, 3), 90, np.uint8)
    write_video(folder / "a.mp4", images, 15, samples, rate)
    return audio.compute_features(
        Raw("a.mp4", folder / "a.mp4", None), audio.Settings(enabled=True, **(AUDIO_SETTINGS | settings))
    )


@pytest.mark.slow
@pytest.mark.parametrize("hertz", [220, 440, 1760])
def test_tone_has_its_frequency_band_and_level(tmp_path: Path, hertz: int) -> None:
    record = extract_audio(tmp_path, 0.5 * np.sin(2 * np.pi * hertz * SECONDS))
    steps = len(record.arrays["times"])
    assert record.arrays["log_mel"].shape == (steps, 64)
    assert record.arrays["mfcc"].shape == (steps, 24)
    assert np.diff(record.arrays["times"]) == pytest.approx(0.01)
    bands = imports.import_librosa().mel_frequencies(66, fmax=RATE / 2)
    loudest = record.arrays["log_mel"][10:-10].mean(0).argmax()
    assert bands[loudest] <= hertz <= bands[loudest + 2]
    quieter = extract_audio(tmp_path, 0.25 * np.sin(2 * np.pi * hertz * SECONDS))
    louder = record.arrays["log_mel"][10:-10, loudest] - quieter.arrays["log_mel"][10:-10, loudest]
    assert louder.mean() == pytest.approx(20 * np.log10(2), abs=0.3)


def test_mfcc_are_the_dct_of_the_log_mel_spectrogram(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = extract_audio(tmp_path, rng.uniform(-0.5, 0.5, 2 * RATE) * np.sin(5 * SECONDS)).arrays
    assert arrays["mfcc"] == pytest.approx(scipy.fft.dct(arrays["log_mel"], norm="ortho")[:, :24], abs=1e-3)
    silent = extract_audio(tmp_path, np.zeros(2 * RATE)).arrays
    assert silent["log_mel"] == pytest.approx(-100, abs=1e-4)  # the lowest level
    assert np.ptp(silent["mfcc"], axis=0) == pytest.approx(0, abs=1e-4)


def test_padded_windows_start_at_the_first_sample(tmp_path: Path) -> None:
    inside, padded = (
        extract_audio(tmp_path, np.sin(SECONDS), edges=edges).arrays["times"] for edges in ("inside", "padded")
    )
    start = inside[0] - 0.0125
    assert padded[0] == pytest.approx(start)
    assert len(padded) > len(inside) + 1
    assert np.diff(padded) == pytest.approx(0.01)


def test_top_db_limits_the_range_below_the_peak(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * SECONDS) * (SECONDS < 1)
    unlimited, limited = (extract_audio(tmp_path, tone, top_db=top).arrays["log_mel"] for top in (None, 30.0))
    assert np.ptp(unlimited) > 60
    assert limited == pytest.approx(np.maximum(unlimited, unlimited.max() - 30))


def test_filter_rate_of_half_shifts_a_tone_by_an_octave(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1760 * SECONDS)
    correct, wrong = (extract_audio(tmp_path, tone, filter_rate=rate).arrays["log_mel"] for rate in (None, RATE // 2))
    bands = [imports.import_librosa().mel_frequencies(66, fmax=rate / 2) for rate in (RATE, RATE // 2)]
    peaks = [
        frequencies[1 + log_mel[10:-10].mean(0).argmax()]
        for frequencies, log_mel in zip(bands, (correct, wrong), strict=True)
    ]
    assert peaks == pytest.approx([1760, 880], rel=0.1)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_audio_times_locate_a_click(tmp_path: Path, rate: int) -> None:
    samples = np.zeros(2 * rate)
    samples[rate : rate + rate // 100] = 0.9
    record = extract_audio(tmp_path, samples, rate)
    loudest = record.arrays["log_mel"].mean(1).argmax()
    assert record.arrays["times"][loudest] == pytest.approx(1.005, abs=0.02)


def test_compute_features_rejects_unreadable_audio(tmp_path: Path) -> None:
    assert "audio.window is 1.0" in extract_audio(tmp_path, np.zeros(RATE // 2), window=1.0).rejected
    (tmp_path / "b.mp4").write_bytes(b"no video")
    damaged, without_video = Raw("b.mp4", tmp_path / "b.mp4", None), Raw("c.mp4", None, None)
    assert (
        "sound cannot be decoded"
        in audio.compute_features(damaged, audio.Settings(enabled=True, **AUDIO_SETTINGS)).rejected
    )
    assert (
        audio.compute_features(without_video, audio.Settings(enabled=True, **AUDIO_SETTINGS)).rejected
        == "audio: no video"
    )


@pytest.mark.parametrize("edges", ["inside", "padded"])
@pytest.mark.parametrize(("length", "hop"), [(400, 160), (401, 500)])
def test_long_audio_is_processed_in_parts_with_equal_results(
    edges: str, length: int, hop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 20_077).astype(np.float32)
    complete = audio.compute_spectra(samples, 16_000, length, hop, 32, 12, edges, 60.0)
    power = imports.import_librosa().feature.melspectrogram(
        y=samples, sr=16_000, n_fft=length, hop_length=hop, n_mels=32, center=edges == "padded"
    )
    monkeypatch.setattr(_spectra, "_BLOCK", 7)
    parts = audio.compute_spectra(samples, 16_000, length, hop, 32, 12, edges, 60.0)
    decibels = 10 * np.log10(power).T
    for log_mel, mfcc in (complete, parts):
        assert log_mel == pytest.approx(np.maximum(decibels, decibels.max() - 60), abs=1e-3)
        assert mfcc == pytest.approx(complete[1], abs=1e-3)


@pytest.mark.parametrize(
    ("rate", "length", "hop", "mels"), [(16_000, 400, 160, 40), (44_100, 2048, 500, 128), (8000, 201, 80, 26)]
)
def test_mel_power_equals_that_of_librosa(rate: int, length: int, hop: int, mels: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * rate).astype(np.float32)
    power = imports.import_librosa().feature.melspectrogram(
        y=samples, sr=rate, n_fft=length, hop_length=hop, n_mels=mels, center=False
    )
    assert mel_power(samples, rate, length, hop, mels) == pytest.approx(power, rel=1e-5)


@pytest.mark.parametrize("highest", [800.0, 1000.0, 22_050.0])
def test_mel_frequencies_equal_those_of_librosa(highest: float) -> None:
    expected = imports.import_librosa().mel_frequencies(42, fmin=0, fmax=highest)
    assert mel_frequencies(42, highest) == pytest.approx(expected, rel=1e-9)
