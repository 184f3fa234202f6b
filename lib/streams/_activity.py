"""Speech activity: detectors of speech, and turns, for the streams voice and faces."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_erosion

from lib.core.errors import SettingError
from lib.core.weight_files import find_file
from lib.streams._sound import RATE, find_quiet, join_turns, measure_power

_SILENCE = -60.0  # dB relative to full scale
_CHUNK = 512  # samples, the input of silero-vad at 16 kHz
_SPEECH = 0.5  # probability from which a chunk is speech
_WINDOW = 400  # samples for the level, 25 ms
_PART = 6000  # number of windows that are in memory together, one minute

HOP = 160
"""Samples between two steps, 10 ms."""

Detect = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A detector of speech: takes audio samples (N,) and the power of the steps (T,), returns whether each is speech (T,)."""


def make_detector(activity: str, setting: str) -> Detect:
    """Return the detector of speech of that name, `energy` or `silero`.

    setting: the path of the setting, for the SettingError that is raised if silero's weights are missing.
    """
    if activity == "energy":
        return detect_by_energy
    path = find_file("silero_vad")
    if not path.is_file():
        raise SettingError(
            f"{setting} = silero, but its weights {path} are missing; allowed: energy without them; run"
            " python -m tools.weights silero_vad"
        )
    return SileroDetector(path)


def list_weights(activity: str) -> list[Path]:
    """Return the files of weights of a detector."""
    return [find_file("silero_vad")] if activity == "silero" else []


def find_turns(
    samples: np.ndarray, detect: Detect, shortest_pause: float, shortest_turn: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each step belongs to a turn (T,), and the power (T,) in dB, at every 160th of audio samples (N,).

    shortest_pause, shortest_turn: in seconds, as in `lib.streams._sound.join_turns`.
    """
    padded = np.pad(samples, _WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP]
    power = np.concatenate([measure_power(windows[start : start + _PART]) for start in range(0, len(windows), _PART)])
    steps = (round(seconds * RATE / HOP) for seconds in (shortest_pause, shortest_turn))
    return join_turns(detect(samples, power), *steps), power


def detect_by_energy(samples: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Return (T,) whether a step is neither quiet compared with the loudest nor silent, given its power (T,) in dB.

    The first and the last step of each run are left out, because the windows of the power reach beyond the step.
    """
    loud = ~find_quiet(power) & (power > _SILENCE)
    return binary_erosion(loud, border_value=1)


class SileroDetector:
    """silero-vad (Silero Team 2021, MIT licence): a small recurrent network that tells speech from other sounds."""

    def __init__(self, weights: Path) -> None:
        self._network = torch.jit.load(str(weights), map_location="cpu").eval()

    @torch.no_grad()
    def __call__(self, samples: np.ndarray, power: np.ndarray) -> np.ndarray:
        """Return (T,) whether a step is speech, given audio samples (N,) at 16 kHz and the power (T,) of the steps."""
        self._network.reset_states()
        padded = torch.from_numpy(np.pad(samples, (0, -len(samples) % _CHUNK)).astype(np.float32))
        probabilities = [float(self._network(chunk, RATE)) for chunk in padded.split(_CHUNK)]
        centres = (np.arange(len(probabilities)) + 0.5) * _CHUNK
        steps = np.linspace(0, len(samples), len(power))
        return np.interp(steps, centres, probabilities) >= _SPEECH
