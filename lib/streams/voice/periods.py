"""Jitter and shimmer: how much consecutive periods of the voice differ in length and amplitude."""

from collections.abc import Iterator

import numpy as np

from lib.streams._measures import find_runs
from lib.streams._sound import RATE

_SEARCH = 0.2  # the next period differs from the pitch by up to this fraction
_JUMP = 1.3  # pairs of periods whose lengths differ by a larger factor are left out, as in Praat


def measure_periods(samples: np.ndarray, pitch: np.ndarray, hop: int) -> tuple[float, float]:
    """Return jitter and shimmer of audio samples (N,); NaN with fewer than three periods.

    pitch: (T,) in Hz at every `hop`-th sample, NaN where unvoiced. Jitter: mean absolute difference of consecutive periods
    over the mean period. Shimmer: the same for the difference of maximum and minimum within a period.
    """
    lengths, amplitudes, change, change_of_amplitude = [], [], [], []
    for start, end in find_runs(np.isfinite(pitch)):
        periods = np.array(list(_follow_periods(samples, pitch, hop, start, end)))
        if len(periods) < 2:
            continue
        ratio = periods[1:, 0] / periods[:-1, 0]
        close = np.maximum(ratio, 1 / ratio) <= _JUMP
        change += np.abs(np.diff(periods[:, 0]))[close].tolist()
        change_of_amplitude += np.abs(np.diff(periods[:, 1]))[close].tolist()
        lengths += periods[:, 0].tolist()
        amplitudes += periods[:, 1].tolist()
    if len(change) < 2:
        return np.nan, np.nan
    return float(np.mean(change) / np.mean(lengths)), float(np.mean(change_of_amplitude) / np.mean(amplitudes))


def _follow_periods(
    samples: np.ndarray, pitch: np.ndarray, hop: int, start: int, end: int
) -> Iterator[tuple[float, float]]:
    """Yield length in samples and amplitude of the periods of the voiced steps `start` to `end`.

    The next period begins where the waveform correlates best with the window around the beginning of this one.
    """
    length = RATE / pitch[start]
    first = max(start * hop, round(length))
    place = first + int(np.argmax(np.abs(samples[first : first + round(length)]))) if first < len(samples) else first
    while True:
        step = round(place / hop)
        if step >= end or step >= len(pitch) or not np.isfinite(pitch[step]):
            return
        length = RATE / pitch[step]
        half, lags = round(length / 2), np.arange(round(length * (1 - _SEARCH)), round(length * (1 + _SEARCH)) + 1)
        if place - half < 0 or place + lags[-1] + half >= len(samples):
            return
        lag = lags[0] + _refine_maximum(_correlate(samples, place, half, lags))[0]
        window = samples[place - half : place - half + round(lag) + 1]
        yield lag, _refine_maximum(window)[1] + _refine_maximum(-window)[1]
        place += round(lag)


def _correlate(samples: np.ndarray, place: int, half: int, lags: np.ndarray) -> np.ndarray:
    """Return the correlation of the window around `place` with the windows `lags` later."""
    window = samples[place - half : place + half]
    others = np.lib.stride_tricks.sliding_window_view(
        samples[place - half + lags[0] : place + half + lags[-1]], len(window)
    )
    return others @ window / np.maximum(np.linalg.norm(others, axis=1) * np.linalg.norm(window), 1e-12)


def _refine_maximum(values: np.ndarray) -> tuple[float, float]:
    """Return the position and the value of the maximum, refined by a parabola."""
    index = int(values.argmax())
    if not 0 < index < len(values) - 1:
        return float(index), float(values[index])
    before, peak, after = values[index - 1 : index + 2]
    bend = before - 2 * peak + after
    shift = 0.5 * (before - after) / bend if bend else 0.0
    return float(index + shift), float(peak - 0.25 * (before - after) * shift)
