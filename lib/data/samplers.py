"""Samplers by name (`take` of model.encoders.NAME): they select the time steps of a clip that an encoder reads."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lib.core.records import Record, choose_evenly, present_steps, step_times


class Sampler(NamedTuple):
    """A way to select time steps. To add a sampler, write its function here and add a line to SAMPLERS.

    choose: takes the indices (T,) of the present steps in temporal order, the number of steps of the encoder's settings
        (`steps`), and a random generator in training or None otherwise; returns the selected indices (K,) in order. The
        result depends only on these arguments.
    random: whether the steps of a training clip differ from epoch to epoch.
    """

    choose: Callable[[np.ndarray, int, np.random.Generator | None], np.ndarray]
    random: bool


def take_all(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return all steps; `count` is ignored."""
    return present


def take_parts(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return one step from each of `count` equal parts of the clip: a random step in training, otherwise the middle step
    (Wang et al. 2016, Temporal segment networks)."""
    place = np.full(count, 0.5) if rng is None else rng.uniform(size=count)
    return present[((np.arange(count) + place) * len(present) / count).astype(int)]


def take_window(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return up to `count` consecutive steps, with a random start in training, otherwise from the middle of the clip."""
    last = len(present) - count
    if last <= 0:
        return present
    start = last // 2 if rng is None else int(rng.integers(last + 1))
    return present[start : start + count]


def take_uniform(present: np.ndarray, count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return up to `count` evenly spaced steps, including the first and the last; training uses the same steps."""
    return choose_evenly(present, count)


def jitter_steps(present: np.ndarray, chosen: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return the indices `chosen` (K,) of steps, each moved by up to `most` steps among those present (T,), in order."""
    places = np.searchsorted(present, chosen) + rng.integers(-most, most + 1, len(chosen))
    return present[np.sort(places.clip(0, max(len(present) - 1, 0)))]


SAMPLERS: Mapping[str, Sampler] = {
    "all": Sampler(take_all, random=False),
    "parts": Sampler(take_parts, random=True),
    "window": Sampler(take_window, random=True),
    "uniform": Sampler(take_uniform, random=False),
}


def select_steps(
    records: Mapping[str, Record],
    references: Mapping[str, tuple[str, str]],
    choose: Callable[[np.ndarray], np.ndarray],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the indices (K,) and the times (K,) of the steps that an encoder reads, by reference to a stream.

    records: of the clip, by stream. references: the stream and the array of each. choose: takes the indices of the present
    steps of the first one, and returns those of K steps. The others contribute the steps nearest in time.
    """
    clock: np.ndarray | None = None
    selected = {}
    for reference, (stream, array) in references.items():
        seconds, indices = step_times(records[stream], array), present_steps(records[stream], array)
        if clock is None:
            indices = choose(indices)
            clock = seconds[indices]
        else:
            indices = indices[np.abs(seconds[indices] - clock[:, None]).argmin(1)]
        selected[reference] = indices, clock
    return selected
