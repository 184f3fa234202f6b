"""What a stream is, how it is found by its name, and how steps of a clip are taken from it."""

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lib.core.errors import InputError, internal
from lib.core.parameters import Section, check
from lib.core.shards import Record

# a place is x and y in pixels of the picture, from its upper left corner (half a pixel from the middle of the first), or NaN
Kind = Literal["pictures", "flow", "points", "vectors"]
"""What a step is: RGB uint8 (3, H, W), displacements in pixels (2, H, W), places (P, 2), or numbers (D,)."""

RAW = "raw"
"""Among a stream's inputs: the clip itself."""

ABOUT = "stream.json"
"""The file in a stream's folder that says how the stream was made."""

TRACEBACK = "traceback"
"""An attribute of a record, not of the shard: of what failed in the making."""


class Raw(NamedTuple):
    """A clip as it came: its file, None without video, and the folder of its corpus' other files, None outside a corpus;
    from when to when it lasts in the file, in seconds, None for all of it."""

    clip: str
    path: Path | None
    annotations: Path | None
    span: tuple[float, float] | None = None


class StreamSettings(Section):
    """What every stream's section has."""

    enabled: bool


class Sequence(NamedTuple):
    """Steps of a clip (T, ...), or of a batch (B, T, ...): values, seconds, and whether the step is there."""

    values: Any
    times: Any
    present: Any


@dataclass(frozen=True)
class Stream:
    """A module of lib/streams, by the names that it must have, and those that it may.

    inputs (INPUTS): RAW or other streams. kind (KIND). settings (Settings): its section of params.yaml. maker: from the
    settings to what makes a clip's Record from its input records; networks are loaded once. steps: a record and indices (K,)
    to the values (K, ...) there; where the stream has several ARRAYS, the name of one comes third.
    A record's array `times` (T,) has the seconds of its steps, without it there is one at 0; `found` (T,), where there is
    one, is 0 for steps that can't be taken.
    May be there: KINDS (of those arrays that are of another kind), ON_GPU (a GPU is used), files (the other files that it
    reads, from settings and annotations folder), agree (raises InputError if settings contradict how the streams that it is
    made from were made), summary (what is worth counting, from the folder of shards), doubts (what makes a prediction from a
    record doubtful), conditions (numbers, by what they are, that a prediction's record should have in common with the
    training clips').
    """

    name: str
    module: str
    inputs: tuple[str, ...]
    kind: Kind
    settings: type[StreamSettings]
    maker: Callable[[Any], Callable[..., Record]]
    steps: Callable[..., np.ndarray]
    arrays: tuple[str, ...]
    kinds: Mapping[str, Kind]
    on_gpu: bool
    files: Callable[[Any, Path], list[Path]]
    agree: Callable[[Any, Mapping[str, "Made"]], None]
    summary: Callable[[Path], dict[str, Any]]
    doubts: Callable[[Record], list[str]]
    conditions: Callable[[Record], dict[str, float]]

    def kind_of(self, array: str) -> Kind:
        """Return what a step of an array is."""
        return self.kinds.get(array, self.kind)

    def read(self, record: Record, chosen: np.ndarray, array: str) -> np.ndarray:
        """Return the values (K, ...) of an array's steps `chosen` (K,)."""
        return self.steps(record, chosen, array) if self.arrays else self.steps(record, chosen)


def names() -> list[str]:
    """Return the names of all streams."""
    found = [
        path.stem for path in Path(__file__).parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    return sorted(set(found) - {"__init__", "base", "build"})


@cache
def load(name: str) -> Stream:
    """Return the stream of that name. Raises InputError if there is none."""
    if name not in names():
        raise InputError(f"there is no stream {name!r}; allowed: {', '.join(names())}, the modules of lib/streams")
    module = importlib.import_module(f"lib.streams.{name}")
    return Stream(
        name,
        module.__name__,
        module.INPUTS,
        module.KIND,
        module.Settings,
        module.maker,
        module.steps,
        getattr(module, "ARRAYS", ()),
        getattr(module, "KINDS", {}),
        getattr(module, "ON_GPU", False),
        getattr(module, "files", lambda settings, annotations: []),
        getattr(module, "agree", lambda settings, above: None),
        getattr(module, "summary", lambda folder: {}),
        getattr(module, "doubts", lambda record: []),
        getattr(module, "conditions", lambda record: {}),
    )


class Made(NamedTuple):
    """What stream.json says: the settings that a stream was made with, and the shape of a step of each of its arrays."""

    settings: dict[str, Any]
    shapes: dict[str, list[int]]


def taken(record: Record, chosen: np.ndarray, array: str) -> np.ndarray:
    """Return an array's steps `chosen` (K,), of no numbers, (K, 0), where the stream was made without it."""
    return record.arrays[array][()][chosen] if array in record.arrays else np.zeros((len(chosen), 0), np.float32)


def made(data: Path, streams: Iterable[str]) -> dict[str, Made]:
    """Return how these streams and all that they are made from were made, each after its inputs; `data` holds the folders.

    Raises InputError for a stream that is off.
    """
    found: dict[str, Made] = {}
    for name in streams:
        path = data / name / ABOUT
        if not path.exists():
            raise InputError(f"stream {name} is off: params.yaml: {name}.enabled is false; set it to true to use it")
        above = [one for one in load(name).inputs if one != RAW]
        found |= {key: value for key, value in made(data, above).items() if key not in found}
        found[name] = Made(**json.loads(path.read_text()))
    return found


def makers(streams: Mapping[str, Made]) -> dict[str, Callable[..., Record]]:
    """Return for each stream what makes a clip's record from its inputs' records, as the stream was made."""
    return {name: load(name).maker(check(about.settings, load(name).settings, name)) for name, about in streams.items()}


def made_from(make: Callable[..., Record], above: Iterable[Raw | Record]) -> Record:
    """Return what a stream's maker makes of a clip's inputs, or the first of them that was refused, as it is.

    A clip at which the maker fails is refused, with the attribute TRACEBACK. An InputError is about more than one clip.
    """
    above = list(above)
    refused = next((one for one in above if isinstance(one, Record) and one.refused), None)
    try:
        return refused or make(*above)
    except InputError:
        raise
    except Exception as error:
        reason, trace = internal(error)
        return Record(above[0].clip, attributes={TRACEBACK: trace}, refused=reason)


def times(record: Record) -> np.ndarray:
    """Return the seconds (T,) of a record's steps."""
    return record.arrays["times"][()] if "times" in record.arrays else np.zeros(1)


def present(record: Record) -> np.ndarray:
    """Return the indices of the steps that can be taken."""
    return np.flatnonzero(record.arrays["found"][()]) if "found" in record.arrays else np.arange(len(times(record)))


def pooled(stream: Stream, record: Record) -> np.ndarray:
    """Return one vector of a clip's record of a stream of vectors: the mean over time of all its arrays, and where there are
    several steps their standard deviation."""
    chosen = present(record)
    parts = []
    for array in stream.arrays or ("",):
        values = stream.read(record, chosen, array)
        parts += [values.mean(0)] + ([values.std(0)] if len(values) > 1 else [])
    return np.concatenate(parts)
