"""Sound: what a tone, a click and silence come to."""

from pathlib import Path

import librosa
import numpy as np
import pytest

from lib.core.shards import Record
from lib.media import video
from lib.streams import audio
from lib.streams.base import Raw

RATE = 16_000
SETTINGS = {"sample_rate": RATE, "window": 0.025, "step": 0.01, "mels": 64, "mfcc": 24}
SECONDS = np.arange(2 * RATE) / RATE


def heard(folder: Path, samples: np.ndarray, rate: int = RATE, **settings: float) -> Record:
    pictures = np.full((30, 64, 64, 3), 90, np.uint8)
    video.write(folder / "a.mp4", pictures, 15, samples, rate)
    return audio.features(Raw("a.mp4", folder / "a.mp4", None), **(SETTINGS | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("hertz", [220, 440, 1760])
def test_a_tone_lies_in_its_band_at_its_level(tmp_path: Path, hertz: int) -> None:
    record = heard(tmp_path, 0.5 * np.sin(2 * np.pi * hertz * SECONDS))
    steps = len(record.arrays["times"])
    assert record.arrays["log_mel"].shape == (steps, 64)
    assert record.arrays["mfcc"].shape == (steps, 24)
    assert np.diff(record.arrays["times"]) == pytest.approx(0.01)
    bands = librosa.mel_frequencies(66, fmax=RATE / 2)
    loudest = record.arrays["log_mel"][10:-10].mean(0).argmax()
    assert bands[loudest] <= hertz <= bands[loudest + 2]
    half = heard(tmp_path, 0.25 * np.sin(2 * np.pi * hertz * SECONDS))
    louder = record.arrays["log_mel"][10:-10, loudest] - half.arrays["log_mel"][10:-10, loudest]
    assert louder.mean() == pytest.approx(20 * np.log10(2), abs=0.3)


def test_coefficients_are_standardised_and_silence_is_zero(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mfcc = heard(tmp_path, rng.uniform(-0.5, 0.5, 2 * RATE) * np.sin(5 * SECONDS)).arrays["mfcc"]
    assert mfcc.mean(0) == pytest.approx(0, abs=1e-4)
    assert mfcc.std(0) == pytest.approx(1, abs=1e-4)
    assert not heard(tmp_path, np.zeros(2 * RATE)).arrays["mfcc"].any()


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_click_is_heard_when_it_sounds(tmp_path: Path, rate: int) -> None:
    samples = np.zeros(2 * rate)
    samples[rate : rate + rate // 100] = 0.9
    record = heard(tmp_path, samples, rate)
    loudest = record.arrays["log_mel"].mean(1).argmax()
    assert record.arrays["times"][loudest] == pytest.approx(1.005, abs=0.02)


def test_what_cannot_be_heard_is_refused(tmp_path: Path) -> None:
    assert "audio.window is 1.0" in heard(tmp_path, np.zeros(RATE // 2), window=1.0).refused
    (tmp_path / "b.mp4").write_bytes(b"no video")
    broken, none = Raw("b.mp4", tmp_path / "b.mp4", None), Raw("c.mp4", None, None)
    assert "sound cannot be decoded" in audio.features(broken, **SETTINGS).refused  # type: ignore[arg-type]
    assert audio.features(none, **SETTINGS).refused == "audio: no video"  # type: ignore[arg-type]
