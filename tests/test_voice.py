"""Turns, pauses, pitch, level, syllables, jitter and shimmer of synthetic voices with known values."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.core.weight_files import find_file
from lib.media.writing import write_video
from lib.streams import _activity as activity
from lib.streams import base, sound_descriptors
from lib.streams._measures import COMPUTE, STATISTICS
from lib.streams._sound import RATE, join_turns
from lib.streams.base import Raw
from lib.streams.voice import extract
from lib.streams.voice.measures import MEASURES
from tests.conftest import REAL, ROOT, needs_real_clips

VALUES: dict[str, Any] = {
    "enabled": True, "activity": "energy", "min_pause": 0.25, "min_turn": 0.1, "lowest_pitch": 65.0,
    "highest_pitch": 500.0,
}  # fmt: skip
TURNS, GAPS, PITCHES = (1.2, 0.8, 2.0, 0.6), (0.5, 0.7, 0.4), (120.0, 150.0, 200.0, 180.0)


def make_tone(seconds: float, hertz: float) -> np.ndarray:
    phase = 2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE
    return 0.2 * (np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.3 * np.sin(3 * phase))


def make_talk(turns: Sequence[float], gaps: Sequence[float], pitches: Sequence[float]) -> np.ndarray:
    """Return tones of these lengths in seconds and pitches in Hz, with silence between them, before and after."""
    noise = 1e-4 * np.random.default_rng(0).normal(size=20 * RATE)
    parts = [np.zeros(RATE // 2)]
    for seconds, hertz, gap in zip(turns, pitches, [*gaps, 0.5], strict=True):
        parts += [make_tone(seconds, hertz), np.zeros(round(gap * RATE))]
    samples = np.concatenate(parts)
    return samples + noise[: len(samples)]


def make_pulses(jitter: float, shimmer: float, count: int = 400) -> tuple[np.ndarray, float, float]:
    """Return a pulse train of 125 Hz through a resonance, and its jitter and shimmer. Periods and amplitudes are random."""
    rng = np.random.default_rng(0)
    periods = RATE / 125 * (1 + jitter * rng.uniform(-1, 1, count))
    heights = 1 + shimmer * rng.uniform(-1, 1, count)
    places = np.cumsum(periods)
    times = np.arange(round(places[-1]) + RATE // 10)
    samples = np.zeros(len(times))
    for place, height in zip(places, heights, strict=True):
        after = times[int(place) : int(place) + 400] - place
        samples[int(place) : int(place) + 400] += (
            height * np.exp(-np.maximum(after, 0) / 16) * np.sin(2 * np.pi * 900 * after / RATE) * (after >= 0)
        )
    measured = np.abs(np.diff(periods)).mean() / periods.mean(), np.abs(np.diff(heights)).mean() / heights.mean()
    return 0.3 * samples, *measured


def describe(samples: np.ndarray, **changes: Any) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    settings = {key: value for key, value in (VALUES | changes).items() if key not in ("enabled", "activity")}
    return extract.describe_voice(samples, activity.detect_by_energy, settings)


def extract_voice(path: Path, **changes: Any) -> Record:
    stream = base.load("voice")
    return stream.make_extractor(stream.settings(**VALUES | changes))(Raw(path.name, path, None))


@pytest.mark.slow
def test_turns_and_pauses_are_within_5_percent() -> None:
    samples = make_talk(TURNS, GAPS, PITCHES)
    columns, statistics = describe(samples)
    assert statistics["speech.number"] == 4
    assert statistics["speech.duration"] == pytest.approx(np.mean(TURNS), rel=0.05)
    assert statistics["speech.fraction"] == pytest.approx(sum(TURNS) / (len(samples) / RATE), rel=0.05)
    assert statistics["speech.rate"] == pytest.approx(4 / (len(samples) / RATE / 60), rel=0.05)
    assert statistics["pause.number"] == 3
    assert statistics["pause.duration"] == pytest.approx(np.mean(GAPS), rel=0.05)
    assert not columns["pause"][:40].any()  # silence before the first turn


def test_pitch_is_within_5_percent() -> None:
    columns, statistics = describe(make_talk(TURNS, GAPS, PITCHES))
    expected = np.repeat(PITCHES, [round(100 * seconds) for seconds in TURNS])
    assert statistics["pitch.mean"] == pytest.approx(expected.mean(), rel=0.05)
    assert statistics["pitch.median"] == pytest.approx(np.median(expected), rel=0.05)
    assert statistics["pitch.std"] == pytest.approx(expected.std(), rel=0.05)
    assert statistics["voiced.fraction"] > 0.95
    inside = columns["pitch"][60:160]  # of the first turn
    assert np.nanmax(np.abs(inside / PITCHES[0] - 1)) < 0.02
    assert np.isnan(columns["pitch"][columns["speech"] == 0]).all()


def test_voiced_fraction_and_semitones_equal_the_truth() -> None:
    noise = 0.05 * np.random.default_rng(0).normal(size=RATE)  # speech without a pitch, as loud as the tones
    low, high = make_tone(1, 110), make_tone(1, 165)
    columns, statistics = describe(np.concatenate([np.zeros(RATE // 2), low, high, noise, np.zeros(RATE // 2)]))
    assert statistics["voiced.fraction"] == pytest.approx(2 / 3, abs=0.05)
    fifth = 12 * np.log2(165 / 110)
    assert statistics["semitones.std"] == pytest.approx(fifth / 2, rel=0.05)
    assert np.nanmedian(columns["semitones"][70:130]) == pytest.approx(12, abs=0.1)  # above 55 Hz


def test_slope_of_pitch_and_level_are_found() -> None:
    seconds = np.arange(3 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(110 * 2 ** (seconds / 3)) / RATE
    _, statistics = describe(np.sin(phase) * 10 ** ((seconds - 3) * 6 / 20))  # an octave in 3 s; 6 dB per second
    assert statistics["semitones.slope"] == pytest.approx(4, rel=0.05)
    assert statistics["level.slope"] == pytest.approx(6, rel=0.05)
    assert statistics["level.p90"] == pytest.approx(-3 - 0.1 * 18, abs=1)


@pytest.mark.slow
def test_syllables_are_counted_within_5_percent() -> None:
    seconds = np.arange(5 * RATE) / RATE
    beats = make_tone(5, 140) * (0.15 + 0.85 * np.sin(np.pi * 4 * seconds) ** 2)  # four peaks per second
    _, statistics = describe(beats)
    assert statistics["syllable.number"] == 20
    assert statistics["speech_rate.value"] == pytest.approx(4, rel=0.05)
    assert describe(make_tone(5, 140))[1]["syllable.number"] <= 1


@pytest.mark.parametrize(("jitter", "shimmer"), [(0.01, 0.05), (0.02, 0.1), (0.04, 0.2)])
def test_jitter_and_shimmer_are_found(jitter: float, shimmer: float) -> None:
    samples, true_jitter, true_shimmer = make_pulses(jitter, shimmer)
    _, statistics = describe(samples)
    assert statistics["jitter.value"] == pytest.approx(true_jitter, rel=0.05)
    assert statistics["shimmer.value"] == pytest.approx(true_shimmer, rel=0.05)


def test_steady_voice_has_neither_jitter_nor_shimmer() -> None:
    _, statistics = describe(make_tone(2, 150))
    assert statistics["jitter.value"] < 0.001
    assert statistics["shimmer.value"] < 0.01


def test_silence_has_no_speech_and_undefined_measures() -> None:
    columns, statistics = describe(1e-5 * np.random.default_rng(0).normal(size=2 * RATE))
    assert not columns["speech"].any()
    assert (statistics["speech.fraction"], statistics["speech.number"]) == (0, 0)
    for name in ("pitch.mean", "level.mean", "speech_rate.value", "jitter.value", "speech.duration"):
        assert np.isnan(statistics[name])


def test_short_gaps_join_and_short_turns_are_left_out() -> None:
    active = np.array([0, 1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], bool)
    assert join_turns(active, 2, 2).astype(int).tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert join_turns(active, 1, 1).tolist() == active.tolist()
    assert not join_turns(np.zeros(5, bool), 2, 2).any()


def test_voice_shares_quiet_windows_with_prosody() -> None:
    samples = make_talk(TURNS, GAPS, PITCHES)
    prosody = dict(zip(sound_descriptors.PROSODY, sound_descriptors.compute_prosody(samples, 65, 500), strict=True))
    seconds = len(samples) / RATE
    pauses = describe(samples)[1]["pause.number"] + 2  # prosody counts silence at both ends too
    assert prosody["pauses_a_second"] * seconds == pytest.approx(pauses, abs=0.1)


def test_voice_of_a_clip_has_all_names_and_times(tmp_path: Path) -> None:
    samples = make_talk(TURNS, GAPS, PITCHES)
    path = tmp_path / "a.mp4"
    write_video(path, np.full((round(15 * len(samples) / RATE), 64, 64, 3), 90, np.uint8), 15, samples, RATE)
    record = extract_voice(path)
    names = base.read_names(record)
    assert names["steps"] == [entry.name for entry in MEASURES if not entry.by_clip]
    assert names["statistics"] == [f"{entry.name}.{name}" for entry in MEASURES for name in entry.statistics]
    assert np.diff(record.arrays["times"]) == pytest.approx(0.01)
    assert record.arrays["times"][-1] == pytest.approx(len(samples) / RATE, abs=0.1)
    assert record.attributes["speech_seconds"] == pytest.approx(sum(TURNS), rel=0.05)
    stream = base.load("voice")
    assert stream.read(record, np.arange(4), "steps").shape == (4, 7)
    assert len(base.pool_steps(stream, record, False)) == len(names["statistics"])
    for entry in MEASURES:
        assert set(entry.statistics) <= set(STATISTICS)
        assert entry.by_clip or set(entry.statistics) <= set(COMPUTE)


def test_clip_without_sound_is_rejected(tmp_path: Path) -> None:
    assert extract_voice(tmp_path / "a.mp4").rejected.startswith("voice: ")
    write_video(tmp_path / "b.mp4", np.full((15, 64, 64, 3), 90, np.uint8), 15, np.zeros(RATE), RATE)
    short = Raw("b.mp4", tmp_path / "b.mp4", None, (0.0, 0.03))
    stream = base.load("voice")
    assert stream.make_extractor(stream.settings(**VALUES))(short).rejected.startswith("voice: 0.0")


def test_missing_silero_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"^voice\.activity = silero, but its weights data/weights/silero\S+ are missing; "
    ):
        extract_voice(tmp_path / "a.mp4", activity="silero")


def test_range_of_pitch_is_validated() -> None:
    with pytest.raises(ValueError, match=r"highest_pitch = 80\.0; allowed: at least 1\.5 x lowest_pitch = 97\.5"):
        base.load("voice").settings(**VALUES | {"highest_pitch": 80.0})


@needs_real_clips
def test_silero_and_energy_agree_on_a_real_speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if not find_file("silero_vad").is_file():
        pytest.skip("run python -m tools.weights silero_vad")
    path = REAL / "6KKNrufnL80.000.mp4"
    speech = [extract_voice(path, activity=name).arrays["steps"][:, 0] for name in ("energy", "silero")]
    assert (speech[0] == speech[1]).mean() > 0.8
    assert speech[1].mean() > 0.5


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_spoken_sentences_are_turns(tmp_path: Path) -> None:
    import librosa

    spoken = []
    for index, sentence in enumerate(("this is the first sentence", "and this is the second one")):
        path = tmp_path / f"{index}.wav"
        subprocess.run(["espeak-ng", "-w", path, sentence], check=True)
        spoken.append(
            librosa.effects.trim(librosa.load(path, sr=RATE)[0], top_db=30, frame_length=400, hop_length=80)[0]
        )
    samples = np.concatenate([spoken[0], np.zeros(RATE), spoken[1]])
    _, statistics = describe(samples)
    assert statistics["speech.number"] == 2
    assert statistics["pause.duration"] == pytest.approx(1, rel=0.1)
    assert statistics["speech.duration"] == pytest.approx(np.mean([len(part) / RATE for part in spoken]), rel=0.05)
