"""Measure a clip's voice from its audio track."""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from lib.core import imports
from lib.core.shards import Record
from lib.media.audio import read_audio
from lib.media.packets import VideoError
from lib.streams._activity import HOP, Detect, find_turns
from lib.streams._measures import find_runs, make_record, summarise_steps
from lib.streams._sound import RATE
from lib.streams.base import Raw
from lib.streams.voice.measures import MEASURES
from lib.streams.voice.periods import measure_periods

_STEP = HOP / RATE  # seconds
_PITCH_WINDOW = 1024  # samples: at least two periods of the lowest pitch
_DIP, _SMOOTH = 2.0, 2.0  # dB; standard deviation in steps of the filter that smooths the level
_REFERENCE = 55.0  # Hz, A1


def measure_voice(raw: Raw, detect: Detect, settings: Mapping[str, float]) -> Record:
    """Return a clip's measures every 10 ms: `steps` (T, D), `times` (T,), and `statistics` (1, S).

    settings: the keys of the section `voice`. A clip without audio is rejected.
    """
    try:
        start, samples = read_audio(raw.path, RATE, raw.span)
    except VideoError as error:
        return Record(raw.clip, rejected=f"voice: {error}")
    if len(samples) < _PITCH_WINDOW:
        return Record(raw.clip, rejected=f"voice: {len(samples) / RATE:.3f} s of audio, 0.064 s are needed")
    columns, statistics = describe_voice(np.asarray(samples, float), detect, settings)
    steps = np.column_stack([*columns.values()]).astype(np.float32)
    times = start + _STEP * np.arange(len(steps))
    seconds = {"seconds": len(steps) * _STEP, "speech_seconds": float(columns["speech"].sum() * _STEP)}
    return make_record(raw.clip, {"steps": steps, "times": times}, statistics, [*columns], seconds)


def describe_voice(
    samples: np.ndarray, detect: Detect, settings: Mapping[str, float]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the measures (T,) of audio samples (N,) at every 160th sample by name, and their statistics by name."""
    librosa = imports.import_librosa()
    pitch, _, _ = librosa.pyin(
        samples, fmin=settings["lowest_pitch"], fmax=settings["highest_pitch"], sr=RATE, frame_length=_PITCH_WINDOW,
        hop_length=HOP,
    )  # fmt: skip
    turns, power = (
        steps[: len(pitch)] for steps in find_turns(samples, detect, settings["min_pause"], settings["min_turn"])
    )
    pitch = np.where(turns, pitch, np.nan)
    columns = {
        "speech": turns.astype(float),
        "pause": _find_pauses(turns).astype(float),
        "voiced": np.where(turns, np.isfinite(pitch), np.nan),
        "pitch": pitch,
        "semitones": 12 * np.log2(pitch / _REFERENCE),
        "level": power,
        "syllable": np.where(turns, _find_syllables(power, np.isfinite(pitch)), np.nan),
    }
    in_speech = np.column_stack([*(columns | {"level": np.where(turns, power, np.nan)}).values()])
    statistics = summarise_steps(MEASURES, in_speech, _STEP * np.arange(len(power)))
    seconds = turns.sum() * _STEP
    jitter, shimmer = measure_periods(samples, pitch, HOP)
    syllables = float(np.nansum(columns["syllable"]))
    by_clip = {
        "speech_rate.value": syllables / seconds if seconds else np.nan,
        "jitter.value": jitter,
        "shimmer.value": shimmer,
    }
    return columns, statistics | by_clip


def _find_pauses(turns: np.ndarray) -> np.ndarray:
    """Return (T,) whether a step lies between two turns."""
    pauses = np.zeros(len(turns), bool)
    for start, end in find_runs(~turns):
        pauses[start:end] = start > 0 and end < len(turns)
    return pauses


def _find_syllables(power: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Return (T,) whether a step is a syllable's nucleus: a peak of the smoothed power where the audio is voiced."""
    peaks = np.zeros(len(power), bool)
    peaks[find_peaks(gaussian_filter1d(power, _SMOOTH), prominence=_DIP)[0]] = True
    return peaks & voiced
