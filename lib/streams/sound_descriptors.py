"""Audio descriptors of a clip as vectors: statistics of its spectra, pitch and level, eGeMAPS, and speaker embeddings."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import imports
from lib.core.errors import SettingError
from lib.core.shards import Record
from lib.streams._measures import find_runs, fit_slope
from lib.streams._sound import RATE, find_quiet, measure_power
from lib.streams.base import RAW, Raw, Stream, StreamSettings, take_steps

ARRAYS = ("spectra", "prosody", "egemaps", "speaker")

PROSODY = (
    "pitch_mean", "pitch_std", "pitch_low", "pitch_high", "pitch_slope", "voiced", "level_std", "level_low", "level_slope",
    "pauses_a_second",
)  # fmt: skip
"""Names of a clip's prosodic features.

Pitch is in semitones above 55 Hz, in voiced windows only. Levels are in dB below the loudest window. low, high: 10th and
90th percentile. slope: of a line fitted over time, per second. voiced: fraction of voiced windows. A pause is at least 0.2 s
in which all windows are at least 30 dB below the loudest window.
"""

_HOP = 0.02  # seconds between the starts of consecutive windows
_WINDOW = 1024  # samples: two periods of 32 Hz
_PAUSE = 0.2  # seconds
_PERIODIC = 0.5  # a window is voiced if its autocorrelation at one period reaches this value
_REFERENCE = 55.0  # Hz, A1
_OPTIONAL = {"egemaps": "opensmile", "speaker": "resemblyzer"}


class Settings(StreamSettings):
    """kinds: arrays to compute. lowest_pitch, highest_pitch: range of the voice's pitch in Hz."""

    kinds: Annotated[list[Literal["spectra", "prosody", "egemaps", "speaker"]], Field(min_length=1)]
    lowest_pitch: Annotated[float, Field(ge=40, le=1000)]
    highest_pitch: Annotated[float, Field(ge=40, le=4000)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds = {self.kinds}; allowed: each once")
        if self.highest_pitch <= self.lowest_pitch:
            raise ValueError(f"highest_pitch = {self.highest_pitch}; allowed: above lowest_pitch = {self.lowest_pitch}")
        return self


def make_extractor(settings: Settings) -> Callable[[Record, Raw], Record]:
    """Return a function that computes a clip's vector (1, D), float32, of each kind. Raises InputError if a package is
    missing."""
    compute: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "prosody": lambda samples: compute_prosody(samples, settings.lowest_pitch, settings.highest_pitch)
    }
    for kind in settings.kinds:
        if kind in _OPTIONAL:
            compute[kind] = _load_extractor(kind)
    kinds: list[str] = [kind for kind in ARRAYS if kind in settings.kinds]

    def make(audio: Record, raw: Raw) -> Record:
        arrays = {}
        if "spectra" in kinds:
            arrays["spectra"] = compute_spectra(audio.arrays)
        if wanted := [kind for kind in kinds if kind != "spectra"]:
            from lib.media.audio import read_audio  # not needed to read the stream's shards
            from lib.media.packets import VideoError

            try:
                samples = read_audio(raw.path, RATE, raw.span)[1]
            except VideoError as error:
                return Record(raw.clip, rejected=f"sound_descriptors: {error}")
            arrays |= {kind: compute[kind](samples) for kind in wanted}
        if wrong := [kind for kind, values in arrays.items() if not np.isfinite(values).all()]:
            return Record(raw.clip, rejected=f"sound_descriptors: {wrong[0]} has values that are not finite")
        parts = json.dumps({kind: len(values) for kind, values in arrays.items()})
        return Record(
            raw.clip, {kind: values[None].astype(np.float32) for kind, values in arrays.items()}, {"parts": parts}
        )

    return make


def files(settings: Settings) -> list[Path]:
    """Return the weights file of resemblyzer's network if the settings use it."""
    weights = imports.package_file("resemblyzer", "pretrained.pt") if "speaker" in settings.kinds else None
    return [] if weights is None else [weights]


def read_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return the clip's only step, the vector (1, D) of a kind; (1, 0) if this kind was not computed."""
    return take_steps(record, indices, array)


def compute_spectra(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return statistics over time (5 D,) of the stream audio's arrays log_mel and mfcc (T, D), concatenated.

    The five statistics are mean, standard deviation, 10th and 90th percentile, and the standard deviation of the difference
    between consecutive steps.
    """
    parts = []
    for name in ("log_mel", "mfcc"):
        values = np.asarray(arrays[name][()], np.float64)
        change = np.diff(values, axis=0) if len(values) > 1 else np.zeros_like(values)
        parts += [values.mean(0), values.std(0), *np.percentile(values, [10, 90], axis=0), change.std(0)]
    return np.concatenate(parts)


def compute_prosody(samples: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Return the features (10,) listed in PROSODY of audio samples (N,) at 16 kHz.

    Pitch features are 0 if no window is voiced. Pitch is estimated between `lowest` and `highest` Hz by librosa's YIN
    (de Cheveigné and Kawahara 2002).
    """
    librosa = imports.import_librosa()

    hop = round(_HOP * RATE)
    padded = np.pad(np.asarray(samples, np.float64), (0, max(0, _WINDOW + hop - len(samples))))
    windows = librosa.util.frame(padded, frame_length=_WINDOW, hop_length=hop, axis=0)
    pitch = librosa.yin(padded, fmin=lowest, fmax=highest, sr=RATE, frame_length=_WINDOW, hop_length=hop, center=False)[
        : len(windows)
    ]
    power = measure_power(windows)
    level = power - power.max()
    quiet, times = find_quiet(power), _HOP * np.arange(len(windows))
    periodic = np.array(
        [_autocorrelation(window, round(RATE / hertz)) for window, hertz in zip(windows, pitch, strict=True)]
    )
    voiced = ~quiet & (periodic >= _PERIODIC) & (power > -90)
    results = dict.fromkeys(PROSODY, 0.0)
    if voiced.any():
        semitones = 12 * np.log2(pitch[voiced] / _REFERENCE)
        results |= {"pitch_mean": semitones.mean(), "pitch_std": semitones.std()}
        results |= {"pitch_slope": fit_slope(times[voiced], semitones)}
        results["pitch_low"], results["pitch_high"] = np.percentile(semitones, [10, 90])
    pauses = sum(end - start >= round(_PAUSE / _HOP) for start, end in find_runs(quiet))
    results |= {"voiced": voiced.mean(), "level_std": level.std(), "level_low": np.percentile(level, 10)}
    results |= {"level_slope": fit_slope(times, level), "pauses_a_second": pauses / (len(padded) / RATE)}
    return np.array([results[name] for name in PROSODY])


def _autocorrelation(window: np.ndarray, lag: int) -> float:
    """Return the correlation of a window with itself `lag` samples later."""
    earlier, later = window[:-lag], window[lag:]
    return float(earlier @ later / max(np.linalg.norm(earlier) * np.linalg.norm(later), 1e-12))


@cache
def _load_extractor(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that maps audio at 16 kHz to openSMILE's eGeMAPSv02 functionals (88,) or to resemblyzer's speaker
    embedding (256,). Raises InputError if the package is not installed."""
    package = _OPTIONAL[kind]
    if importlib.util.find_spec(package) is None:
        raise SettingError(
            f"sound_descriptors.kinds has {kind}, but {package} is not installed; follow"
            f" requirements-sound.txt, or remove {kind}"
        )
    imports.import_librosa()  # resemblyzer imports librosa too
    module: Any = importlib.import_module(package)
    if kind == "egemaps":
        smile = module.Smile(module.FeatureSet.eGeMAPSv02, module.FeatureLevel.Functionals)
        return lambda samples: smile.process_signal(samples, RATE).to_numpy()[0]
    encoder = module.VoiceEncoder("cpu", verbose=False)
    return lambda samples: encoder.embed_utterance(samples)


STREAM = Stream(
    inputs=("audio", RAW),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    arrays=ARRAYS,
    files=files,
)
