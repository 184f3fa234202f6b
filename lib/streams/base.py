"""What a stream is, how it is found by its name, and how steps of a clip are taken from it."""

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lib.core.errors import InputError, describe_internal_error
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

_CONTRACT = ("base", "build")
"""Modules of this folder that are no streams and that other packages use."""


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


class Steps(NamedTuple):
    """Steps of a clip (T, ...), or of a batch (B, T, ...): values, seconds, and whether the step is there."""

    values: Any
    times: Any
    present: Any


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What a module or package of lib/streams declares as its constant STREAM. Its name is the stream's name.

    inputs: RAW for the clip itself, or names of other streams.
    kind: what one step is.
    settings: the model of its section of params.yaml.
    make_extractor: takes the settings, loads networks once, and returns a function from a clip's input records (a Raw for
        RAW), in the order of `inputs`, to its Record. A clip that can't be used gets a Record with `refused`, a reason that
        begins with the stream's name and a colon.
    read_steps: takes a record and the indices (K,) of steps and returns their values (K, ...); in a stream with `arrays` the
        name of one of them comes third.

    A record's array `times` (T,) holds the seconds of its steps; without it there is one step at 0. `found` (T,), if it is
    there, is 0 for steps that can't be read.

    All else has a default:
    arrays: names of the arrays that can be read, the first by default. kinds: the kinds of those that differ from `kind`.
    on_gpu: whether a GPU is used if there is one.
    files: takes the settings and returns the files that they name or that a package ships, such as weights.
    annotation_files: takes the settings and a corpus' folder of annotations and returns the files that are read there.
        The contents of both enter the fingerprint: shards are rebuilt if one of them changes.
    validate_inputs: raises InputError if the settings contradict how the inputs were made.
    summary: takes the folder of shards and returns figures for metrics/NAME.json.
    warnings: takes a record and returns reasons to doubt a prediction from it.
    statistics: takes a record and returns input statistics by name; a prediction warns of those outside the training clips'.
    """

    inputs: tuple[str, ...]
    kind: Kind
    settings: type[StreamSettings]
    make_extractor: Callable[[Any], Callable[..., Record]]
    read_steps: Callable[..., np.ndarray]
    arrays: tuple[str, ...] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    on_gpu: bool = False
    files: Callable[[Any], list[Path]] = lambda settings: []
    annotation_files: Callable[[Any, Path], list[Path]] = lambda settings, folder: []
    validate_inputs: Callable[[Any, Mapping[str, "StreamInfo"]], None] = lambda settings, inputs: None
    summary: Callable[[Path], dict[str, Any]] = lambda folder: {}
    warnings: Callable[[Record], list[str]] = lambda record: []
    statistics: Callable[[Record], dict[str, float]] = lambda record: {}
    name: str = ""
    """Set by `load`."""

    @property
    def module(self) -> str:
        """Return the name of the module that declares the stream."""
        return f"{__package__}.{self.name}"

    def kind_of(self, array: str) -> Kind:
        """Return what one step of an array is."""
        return self.kinds.get(array, self.kind)

    def read(self, record: Record, chosen: np.ndarray, array: str) -> np.ndarray:
        """Return the values (K, ...) of an array's steps `chosen` (K,)."""
        return self.read_steps(record, chosen, array) if self.arrays else self.read_steps(record, chosen)


def names() -> list[str]:
    """Return the names of all streams: the modules of this folder, except helpers, whose names begin with "_"."""
    modules = [
        path.stem for path in Path(__file__).parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    return sorted(name for name in modules if not name.startswith("_") and name not in _CONTRACT)


@cache
def load(name: str) -> Stream:
    """Return the stream of that name. Raises InputError if there is none."""
    if name not in names():
        raise InputError(f"there is no stream {name!r}; allowed: {', '.join(names())}, the modules of lib/streams")
    return replace(importlib.import_module(f"{__package__}.{name}").STREAM, name=name)


class StreamInfo(NamedTuple):
    """What stream.json says: the settings that a stream was made with, and the shape of a step of each of its arrays."""

    settings: dict[str, Any]
    shapes: dict[str, list[int]]


def take_steps(record: Record, chosen: np.ndarray, array: str) -> np.ndarray:
    """Return an array's steps `chosen` (K,), of no numbers, (K, 0), where the stream was made without it."""
    return record.arrays[array][()][chosen] if array in record.arrays else np.zeros((len(chosen), 0), np.float32)


def load_stream_info(data: Path, streams: Iterable[str]) -> dict[str, StreamInfo]:
    """Return how streams and all their inputs were made, each after its own inputs; `data` holds the folders.

    Raises InputError for a stream that is off.
    """
    found: dict[str, StreamInfo] = {}
    for name in streams:
        path = data / name / ABOUT
        if not path.exists():
            raise InputError(f"stream {name} is off: params.yaml: {name}.enabled is false; set it to true to use it")
        above = [one for one in load(name).inputs if one != RAW]
        found |= {key: value for key, value in load_stream_info(data, above).items() if key not in found}
        found[name] = StreamInfo(**json.loads(path.read_text()))
    return found


def make_extractors(streams: Mapping[str, StreamInfo]) -> dict[str, Callable[..., Record]]:
    """Return for each stream what makes a clip's record from its inputs' records, as the stream was made."""
    return {
        name: load(name).make_extractor(check(about.settings, load(name).settings, name))
        for name, about in streams.items()
    }


def extract(make: Callable[..., Record], above: Iterable[Raw | Record]) -> Record:
    """Return what a stream's extractor makes of a clip's inputs, or the first of them that was refused, as it is.

    A clip at which the extractor fails is refused, with the attribute TRACEBACK. An InputError is about more than one clip.
    """
    above = list(above)
    refused = next((one for one in above if isinstance(one, Record) and one.refused), None)
    try:
        return refused or make(*above)
    except InputError:
        raise
    except Exception as error:
        reason, trace = describe_internal_error(error)
        return Record(above[0].clip, attributes={TRACEBACK: trace}, refused=reason)


def check_enabled(parameters: Mapping[str, Any]) -> None:
    """Check in the complete parameters that every stream which an encoder in use reads is enabled, and so are its inputs.

    Raises InputError for the first stream that is not. Names that are not known are left to the checks of their sections.
    """
    encoders = parameters["model"]["encoders"]
    for encoder in parameters["model"]["use"]:
        for reference in encoders.get(encoder, {}).get("reads", []):
            name = reference.partition(".")[0]
            for needed in list_with_inputs(name) if name in names() else ():
                if not parameters[needed]["enabled"]:
                    why = f"model.encoders.{encoder}.reads has {reference}" + (
                        f", which is made from {needed}" if needed != name else ""
                    )
                    raise InputError(
                        f"params.yaml: {needed}.enabled = false, but model.use has {encoder} and {why}; allowed: true; set"
                        f" {needed}.enabled to true, or take {encoder} out of model.use"
                    )


def list_with_inputs(name: str) -> list[str]:
    """Return a stream and all streams that it is made from, each after its inputs."""
    above = [one for of in load(name).inputs if of != RAW for one in list_with_inputs(of)]
    return list(dict.fromkeys([*above, name]))


def step_times(record: Record) -> np.ndarray:
    """Return the seconds (T,) of a record's steps."""
    return record.arrays["times"][()] if "times" in record.arrays else np.zeros(1)


def present_steps(record: Record) -> np.ndarray:
    """Return the indices of the steps that can be taken."""
    return (
        np.flatnonzero(record.arrays["found"][()]) if "found" in record.arrays else np.arange(len(step_times(record)))
    )


def choose_evenly(present: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` of the indices `present`, evenly spaced, first and last among them; all if there are fewer."""
    if len(present) <= count:
        return present
    return present[np.linspace(0, len(present) - 1, count).astype(int)]


def pool_steps(stream: Stream, record: Record) -> np.ndarray:
    """Return one vector of a clip's record of a stream of vectors: the mean over time of all its arrays, and where there are
    several steps their standard deviation."""
    chosen = present_steps(record)
    parts = []
    for array in stream.arrays or ("",):
        values = stream.read(record, chosen, array)
        parts += [values.mean(0)] + ([values.std(0)] if len(values) > 1 else [])
    return np.concatenate(parts)
