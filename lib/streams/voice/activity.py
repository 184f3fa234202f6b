"""Detectors of speech."""

from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_erosion

from lib.streams._sound import RATE, find_quiet

_SILENCE = -60.0  # dB relative to full scale
_CHUNK = 512  # samples, the input of silero-vad at 16 kHz
_SPEECH = 0.5  # probability from which a chunk is speech


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
