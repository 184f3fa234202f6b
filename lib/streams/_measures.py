"""Named measures over time: their units and meanings, and statistics of a clip by name."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.core.shards import Record
from lib.streams.base import NAMES

NUMBER = ("mean", "std", "p10", "median", "p90", "slope")
EVENT = ("fraction", "number", "rate", "duration")

STATISTICS: Mapping[str, str] = {
    "mean": "mean over time",
    "std": "standard deviation over time",
    "p10": "10th percentile over time",
    "median": "median over time",
    "p90": "90th percentile over time",
    "slope": "slope of a line fitted over time, in the measure's unit per second",
    "fraction": "fraction of the steps with a value at which the event takes place",
    "number": "number of episodes: runs of consecutive steps at which the event takes place",
    "rate": "number of episodes per minute of steps with a value",
    "duration": "mean length of an episode in seconds",
    "entropy": "entropy of the distribution over pixels, from 0 (one pixel) to 1 (all pixels equal)",
    "centre_x": "horizontal centre of gravity, from 0 (left edge) to 1",
    "centre_y": "vertical centre of gravity, from 0 (upper edge) to 1",
    "value": "one number per clip",
}
"""The statistics of a clip. A clip's number MEASURE.STATISTIC is NaN if it is not defined, such as without an
episode."""

ARRAYS = ("steps", "statistics")
"""The arrays of a stream of measures: the measures at each step, and the clip's statistics, in one step."""

DETAILED = ("steps",)
"""The array that baselines do not read, because the statistics have its contents."""


@dataclass(frozen=True)
class Measure:
    """A number at each step of a clip, or 0 and 1 for an event.

    openface: the column of OpenFace 2 with the same meaning, and the factor that converts to its unit. by_clip: the measure
    has no value at single steps, only the `statistics` of a clip. needs: an input that not every clip has.
    """

    name: str
    unit: str
    group: str
    meaning: str
    statistics: tuple[str, ...] = NUMBER
    openface: tuple[str, float] | None = None
    by_clip: bool = False
    needs: str = ""


def summarise_steps(measures: Sequence[Measure], values: np.ndarray, times: np.ndarray) -> dict[str, float]:
    """Return the statistics of `values` (T, D) at `times` (T,) by name. Columns are the measures that are not `by_clip`.

    NaN marks steps without a value. An episode ends at such a step.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    columns = [measure for measure in measures if not measure.by_clip]
    return {
        f"{measure.name}.{statistic}": float(COMPUTE[statistic](column, times, step))
        for measure, column in zip(columns, values.T.astype(float), strict=True)
        for statistic in measure.statistics
    }


def make_record(
    clip: str,
    arrays: Mapping[str, np.ndarray],
    statistics: Mapping[str, float],
    names: Sequence[str],
    attributes: Mapping[str, Any],
) -> Record:
    """Return a record with the array `steps`, whose columns have `names`, other arrays, and the `statistics`."""
    vector = {"statistics": np.array([*statistics.values()], np.float32)[None], "statistics.times": np.zeros(1)}
    listed = json.dumps({"steps": [*names], "statistics": [*statistics]})
    return Record(clip, {**arrays, **vector}, {NAMES: listed, **attributes})


def read_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return the measures (K, D) of the steps `indices` (K,), or the clip's only step, its statistics. NaN: no value."""
    return record.arrays[array][()][indices]


def find_runs(mask: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each run of consecutive steps where `mask` (T,) is true; the end is not included."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, bool).astype(np.int8), [0]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def fit_slope(times: np.ndarray, values: np.ndarray) -> float:
    """Return the slope of a line fitted to `values` (T,) over `times` (T,)."""
    centred = times - times.mean()
    return float(centred @ values / max(centred @ centred, 1e-12))


Compute = Callable[[np.ndarray, np.ndarray, float], float]
"""A function of a column (T,), its times (T,), and the time between steps in seconds."""


def _where_known(function: Callable[[np.ndarray, np.ndarray], float]) -> Compute:
    """Return the function that applies `function` to the known values and their times; NaN if no value is known."""

    def compute(values: np.ndarray, times: np.ndarray, step: float) -> float:
        finite = np.isfinite(values)
        return function(values[finite], times[finite]) if finite.any() else np.nan

    return compute


def _rate(values: np.ndarray, times: np.ndarray, step: float) -> float:
    minutes = np.isfinite(values).sum() * step / 60
    return len(list(find_runs(values == 1))) / minutes if minutes else np.nan


def _duration(values: np.ndarray, times: np.ndarray, step: float) -> float:
    lengths = [(end - start) * step for start, end in find_runs(values == 1)]
    return float(np.mean(lengths)) if lengths else np.nan


def _number(values: np.ndarray, times: np.ndarray, step: float) -> float:
    return len(list(find_runs(values == 1))) if np.isfinite(values).any() else np.nan


COMPUTE: Mapping[str, Compute] = {
    "mean": _where_known(lambda values, times: float(values.mean())),
    "std": _where_known(lambda values, times: float(values.std())),
    "p10": _where_known(lambda values, times: float(np.percentile(values, 10))),
    "median": _where_known(lambda values, times: float(np.median(values))),
    "p90": _where_known(lambda values, times: float(np.percentile(values, 90))),
    "slope": _where_known(lambda values, times: fit_slope(times, values) if len(values) > 1 else np.nan),
    "fraction": _where_known(lambda values, times: float(values.mean())),
    "number": _number,
    "rate": _rate,
    "duration": _duration,
}
"""The statistics of a column over time, by name."""
