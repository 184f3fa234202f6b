"""Intervals, percentiles and means of predictions; separate so that importing it loads only NumPy."""

from collections.abc import Mapping, Sequence

import numpy as np

from lib.core.errors import InputError

INTERVAL_LEVEL = 0.9
"""The level of the prediction intervals of models that were trained before the parameter `train.interval` existed."""


def percentile(score: float, quantiles: np.ndarray) -> float | None:
    """Return the percentage of training labels below a score, given their quantiles (101,); None if they are unknown."""
    if not np.isfinite(quantiles).all():
        return None
    return float(np.interp(score, quantiles, np.linspace(0, 100, len(quantiles))))


def find_interval(
    score: float, half_width: float, bounds: Sequence[float] | None
) -> tuple[float, float] | tuple[None, None]:
    """Return the ends of a score's interval, within `bounds` if there are some; None if the half-width is not finite."""
    if not np.isfinite(half_width):
        return None, None
    low, high = score - half_width, score + half_width
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return float(low), float(high)


def average_windows(
    means: np.ndarray, scales: np.ndarray | None, weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the weighted mean of predictions (W, K), and the scale of their mixture if they have scales (W, K).

    The scale contains how far the predictions differ.
    """
    mean = np.average(means, 0, weights)
    if scales is None:
        return mean, None
    return mean, np.sqrt(np.average(scales**2 + (means - mean) ** 2, 0, weights))


def check_usable_fraction(usable_fraction: float, min_usable: float, usable: int, windows: int, reason: str) -> None:
    """Raise InputError if less than the fraction `min_usable` of a clip could be used.

    usable, windows: numbers of usable and of all windows. reason: why a window could not be used, or ''.
    """
    if usable_fraction < min_usable:
        window_count = f", {usable} of its {windows} windows" if windows > 1 else ""
        raise InputError(
            f"only {100 * usable_fraction:.0f} % of the clip can be used{window_count}"
            f" (min_usable is {100 * min_usable:.0f} %)" + (f"; first reason: {reason}" if reason else "")
        )


def average_usable_fractions(windows: Sequence[Mapping[str, float]]) -> list[float]:
    """Return for each window the fraction of time steps that could be used: the mean over the streams that the clip has.

    windows: the fraction by stream, for each window of the clip.
    """
    names = [name for name in windows[0] if any(window[name] for window in windows)]
    return [float(np.mean([window[name] for name in names] or [0.0])) for window in windows]
