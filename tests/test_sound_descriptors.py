"""Audio descriptors (one vector per clip) of tones, glides, pauses, silence and unusual clips."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.streams import audio, base, sound_descriptors
from lib.streams._extraction import extract_clip
from lib.streams.base import Raw
from lib.streams.sound_descriptors import PROSODY
from tests.conftest import REAL, needs_real_clips
from tests.test_audio import AUDIO_SETTINGS, RATE, extract_audio

SECONDS = np.arange(3 * RATE) / RATE
CLIP = "6KKNrufnL80.000.mp4"


def make_settings(**changes: Any) -> sound_descriptors.Settings:
    values = {"enabled": True, "kinds": ["spectra", "prosody"], "lowest_pitch": 65.0, "highest_pitch": 500.0}
    return sound_descriptors.Settings(**values | changes)


def compute_prosody(samples: np.ndarray) -> dict[str, float]:
    return dict(zip(PROSODY, sound_descriptors.compute_prosody(samples, 65.0, 500.0).tolist(), strict=True))


def make_voice(hertz: np.ndarray) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    return 0.2 * (np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.3 * np.sin(3 * phase))


@pytest.mark.parametrize("hertz", [110, 220, 330])
def test_prosody_finds_the_pitch_of_a_tone(hertz: int) -> None:
    prosody = compute_prosody(make_voice(np.full(len(SECONDS), hertz)))
    assert prosody["pitch_mean"] == pytest.approx(12 * np.log2(hertz / 55), abs=0.1)
    assert prosody["pitch_std"] < 0.2
    assert prosody["voiced"] > 0.97
    assert prosody["pauses_a_second"] == 0
    assert abs(prosody["level_low"]) < 1.5


def test_prosody_finds_slopes_of_pitch_and_level() -> None:
    rising = compute_prosody(make_voice(110 * 2 ** (SECONDS / 3)) * np.linspace(0.1, 1, len(SECONDS)))
    assert rising["pitch_slope"] == pytest.approx(4, abs=0.1)  # an octave in 3 s
    assert rising["pitch_high"] - rising["pitch_low"] == pytest.approx(9.6, abs=0.4)
    assert rising["level_slope"] > 3
    falling = compute_prosody(make_voice(220 * 2 ** (-SECONDS / 3)))
    assert falling["pitch_slope"] == pytest.approx(-4, abs=0.1)
    assert falling["pitch_mean"] == pytest.approx(rising["pitch_mean"], abs=0.2)


def test_prosody_counts_pauses_and_ignores_noise() -> None:
    tone = make_voice(np.full(len(SECONDS), 150))
    tone[(SECONDS % 1) > 0.6] = 0
    prosody = compute_prosody(tone)
    assert prosody["pauses_a_second"] == pytest.approx(1, abs=0.05)
    assert prosody["voiced"] == pytest.approx(0.6, abs=0.05)
    assert prosody["level_low"] < -40
    noise = compute_prosody(0.1 * np.random.default_rng(0).normal(size=len(SECONDS)))
    assert noise["voiced"] < 0.05


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.zeros(0), np.ones(100), 1e-9 * np.ones(RATE)])
def test_prosody_of_silence_and_short_audio_is_finite(samples: np.ndarray) -> None:
    prosody = compute_prosody(samples)
    assert np.isfinite(list(prosody.values())).all()
    assert prosody["pitch_mean"] == prosody["voiced"] == 0


def test_spectra_equal_values_by_hand() -> None:
    values = np.arange(11.0)[:, None] * [1, 2]
    spectra = sound_descriptors.compute_spectra({"log_mel": values, "mfcc": -values[:, :1]})
    std = np.std(np.arange(11))
    assert spectra == pytest.approx([5, 10, std, 2 * std, 1, 2, 9, 18, 0, 0, -5, std, -9, -1, 0])
    single = sound_descriptors.compute_spectra({"log_mel": values[:1], "mfcc": values[:1]})
    assert single.shape == (20,)
    assert not single.any()


def test_audio_descriptors_list_their_parts(tmp_path: Path) -> None:
    record = extract_audio(tmp_path, make_voice(np.full(len(SECONDS), 110)))
    extracted = sound_descriptors.make_extractor(make_settings())(record, Raw("a.mp4", tmp_path / "a.mp4", None))
    assert {name: array.shape for name, array in extracted.arrays.items()} == {"spectra": (1, 440), "prosody": (1, 10)}
    assert json.loads(extracted.attributes["parts"]) == {"spectra": 440, "prosody": 10}
    assert extracted.arrays["prosody"][0, 0] == pytest.approx(12, abs=0.2)
    assert base.pool_steps(base.load("sound_descriptors"), extracted, False).shape == (450,)
    prosody_only = sound_descriptors.make_extractor(make_settings(kinds=["prosody"]))(
        record, Raw("a.mp4", tmp_path / "a.mp4", None)
    )
    assert list(prosody_only.arrays) == ["prosody"]
    np.testing.assert_array_equal(prosody_only.arrays["prosody"], extracted.arrays["prosody"])


def test_audio_descriptors_reject_missing_or_nan_audio(tmp_path: Path) -> None:
    raw = Raw("a.mp4", None, tmp_path)
    rejected = audio.compute_features(raw, audio.Settings(enabled=True, **AUDIO_SETTINGS))
    assert (
        extract_clip(sound_descriptors.make_extractor(make_settings()), [rejected, raw]).rejected == "audio: no video"
    )
    record = Record("a.mp4", {"log_mel": np.full((4, 2), np.nan), "mfcc": np.zeros((4, 2))})
    extracted = sound_descriptors.make_extractor(make_settings(kinds=["spectra"]))(record, raw)
    assert extracted.rejected == "sound_descriptors: spectra has values that are not finite"
    record = Record("a.mp4", {"log_mel": np.zeros((4, 2)), "mfcc": np.zeros((4, 2))})
    assert sound_descriptors.make_extractor(make_settings())(record, raw).rejected == "sound_descriptors: no video"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ["spectra", "spectra"]}, "allowed: each once"),
        ({"kinds": []}, "at least 1 item"),
        ({"lowest_pitch": 500.0}, "above lowest_pitch = 500"),
        ({"lowest_pitch": 10.0}, "greater than or equal to 40"),
    ],
)
def test_audio_descriptor_settings_are_validated(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_settings(**changes)


@pytest.mark.parametrize(("kind", "package"), [("egemaps", "opensmile"), ("speaker", "resemblyzer")])
def test_missing_package_of_a_descriptor_is_named(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sound_descriptors._load_extractor.cache_clear()
    with pytest.raises(
        InputError, match=rf"kinds has {kind}, but {package} is not installed; follow requirements-sound\.txt"
    ):
        sound_descriptors.make_extractor(make_settings(kinds=[kind]))


@needs_real_clips
@pytest.mark.parametrize(("kind", "package", "length"), [("egemaps", "opensmile", 88), ("speaker", "resemblyzer", 256)])
def test_real_clip_has_published_descriptors(kind: str, package: str, length: int) -> None:
    pytest.importorskip(package, reason="requirements-sound.txt is not installed")
    raw = Raw(CLIP, REAL / CLIP, None)
    record = audio.compute_features(raw, audio.Settings(enabled=True, **AUDIO_SETTINGS))
    extracted = sound_descriptors.make_extractor(make_settings(kinds=[kind]))(record, raw)
    assert extracted.arrays[kind].shape == (1, length)
    assert np.isfinite(extracted.arrays[kind]).all()
