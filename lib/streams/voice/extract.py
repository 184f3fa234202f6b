"""Measure a clip's voice from its audio track."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from lib.core import imports
from lib.core.shards import Record
from lib.media.audio import read_audio
from lib.media.packets import VideoError
from lib.streams._measures import find_runs, make_record, summarise_steps
from lib.streams._sound import RATE, join_turns, measure_power
from lib.streams.base import Raw
from lib.streams.voice.measures import MEASURES
from lib.streams.voice.periods import measure_periods

_HOP = 160  # samples, 10 ms
_STEP = _HOP / RATE  # seconds
_WINDOW = 400  # samples for the level, 25 ms
_PITCH_WINDOW = 1024  # samples: at least two periods of the lowest pitch
_DIP, _SMOOTH = 2.0, 2.0  # dB; standard deviation in steps of the filter that smooths the level
_REFERENCE = 55.0  # Hz, A1

Detect = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A detector of speech: takes audio samples (N,) and the power of the steps (T,), returns whether each is speech (T,)."""


def measure_voice(raw: Raw, detect: Detect, settings: Mapping[str, float]) -> Record:
    """Return a clip's measures every 10 ms: `steps` (T, D), `times` (T,), and `statistics` (1, S).

    settings: the keys of the section `voice`. A clip without audio is rejected.
    """
    try:
        start, samples = read_audio(raw.path, RATE, raw.span)
    except VideoError as error:
        return Record(raw.clip, refused=f"voice: {error}")
    if len(samples) < _PITCH_WINDOW:
        return Record(raw.clip, refused=f"voice: {len(samples) / RATE:.3f} s of audio, 0.064 s are needed")
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
        hop_length=_HOP,
    )  # fmt: skip
    padded = np.pad(samples, _WINDOW // 2)
    power = measure_power(np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP])[: len(pitch)]
    turns = join_turns(
        detect(samples, power), round(settings["min_pause"] / _STEP), round(settings["min_turn"] / _STEP)
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
    jitter, shimmer = measure_periods(samples, pitch, _HOP)
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
