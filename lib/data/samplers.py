"""Samplers: which time steps of a clip an encoder reads, by name (`take` of model.encoders.NAME)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lib.streams.base import choose_evenly


class Sampler(NamedTuple):
    """One way to choose time steps. To add one, write its function here and add a line to SAMPLERS.

    choose: takes the indices (T,) of the steps that are there, in order of time, the number of steps that the encoder asks
        for (`steps`), and a generator in training, None otherwise; returns the chosen indices (K,), in order. The result
        depends on these alone: None gives the same steps each time.
    random: whether the steps of a training clip differ from epoch to epoch.
    """

    choose: Callable[[np.ndarray, int, np.random.Generator | None], np.ndarray]
    random: bool


def take_all(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return all steps, whatever `count`."""
    return present


def take_parts(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return one step of each of `count` equal parts of the clip, at random in training, otherwise the middle one (Wang et
    al. 2016, Temporal segment networks)."""
    place = np.full(count, 0.5) if rng is None else rng.uniform(size=count)
    return present[((np.arange(count) + place) * len(present) / count).astype(int)]


def take_window(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return up to `count` consecutive steps, from a random place in training, otherwise from the middle."""
    last = len(present) - count
    if last <= 0:
        return present
    start = last // 2 if rng is None else int(rng.integers(last + 1))
    return present[start : start + count]


def take_uniform(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return up to `count` steps, evenly spaced, the same in training: first and last are among them."""
    return choose_evenly(present, count)


SAMPLERS: Mapping[str, Sampler] = {
    "all": Sampler(take_all, random=False),
    "parts": Sampler(take_parts, random=True),
    "window": Sampler(take_window, random=True),
    "uniform": Sampler(take_uniform, random=False),
}
