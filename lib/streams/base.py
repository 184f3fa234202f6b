"""The contract of a stream, its lookup by name, and the steps of a clip in it."""

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

# a point is x and y in pixels from the image's upper left corner, (0.5, 0.5) is the centre of the first pixel; or NaN
Kind = Literal["pictures", "flow", "points", "vectors"]
"""Contents of a step: RGB uint8 (3, H, W), displacements in pixels (2, H, W), points (P, 2), or numbers (D,)."""

RAW = "raw"
"""The name of the clip itself among a stream's inputs."""

ABOUT = "stream.json"
"""The file in a stream's folder with its settings and the shapes of its steps."""

TRACEBACK = "traceback"
"""An attribute of a record of a failed clip; it is not written to the shard."""

_CONTRACT = ("base", "build")
"""Modules of this folder that other packages use and that are not streams."""


class Raw(NamedTuple):
    """A clip before any processing.

    path: its file, None without video. annotations: the folder of its corpus' other files, None outside a corpus. span: its
    begin and end in the file in seconds, None for the complete file.
    """

    clip: str
    path: Path | None
    annotations: Path | None
    span: tuple[float, float] | None = None


class StreamSettings(Section):
    """The keys of every stream's section."""

    enabled: bool


class Steps(NamedTuple):
    """Steps of a clip (T, ...), or of a batch (B, T, ...): values, times in seconds, and whether the step is present."""

    values: Any
    times: Any
    present: Any


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The constant STREAM of a module or package of lib/streams. The module's name is the stream's name.

    inputs: RAW for the clip itself, or names of other streams.
    kind: the contents of one step.
    settings: the model of its section of params.yaml.
    make_extractor: takes the settings, loads networks once, and returns a function from a clip's input records (a Raw for
        RAW), in the order of `inputs`, to its Record. A clip that can't be used gets a Record with `refused`, a reason that
        begins with the stream's name and a colon.
    read_steps: takes a record and the indices (K,) of steps and returns their values (K, ...); in a stream with `arrays` the
        name of one of them comes third.

    A record's array `times` (T,) holds the seconds of its steps; without it the clip has one step at 0 s. `found` (T,), if
    present, is 0 for steps that can't be read.

    All other fields have defaults:
    arrays: names of the arrays that can be read, the first by default. kinds: the kinds of those that differ from `kind`.
    on_gpu: whether the extractor uses an available GPU.
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
    """Return the stream of that name. Raises InputError for an unknown name."""
    if name not in names():
        raise InputError(f"unknown stream {name!r}; allowed: {', '.join(names())}, the modules of lib/streams")
    return replace(importlib.import_module(f"{__package__}.{name}").STREAM, name=name)


class StreamInfo(NamedTuple):
    """The contents of stream.json: the settings of a stream, and the shape of one step of each of its arrays."""

    settings: dict[str, Any]
    shapes: dict[str, list[int]]


def take_steps(record: Record, chosen: np.ndarray, array: str) -> np.ndarray:
    """Return an array's steps `chosen` (K,); an empty array (K, 0) if the stream was built without it."""
    return record.arrays[array][()][chosen] if array in record.arrays else np.zeros((len(chosen), 0), np.float32)


def load_stream_info(data: Path, streams: Iterable[str]) -> dict[str, StreamInfo]:
    """Return the info of streams and of all their inputs, each after its own inputs, from the folders in `data`.

    Raises InputError for a disabled stream.
    """
    infos: dict[str, StreamInfo] = {}
    for name in streams:
        path = data / name / ABOUT
        if not path.exists():
            raise InputError(
                f"params.yaml: {name}.enabled = false, but the stream is needed; allowed: true; set it to true"
            )
        inputs = [name_of_input for name_of_input in load(name).inputs if name_of_input != RAW]
        infos |= {key: value for key, value in load_stream_info(data, inputs).items() if key not in infos}
        infos[name] = StreamInfo(**json.loads(path.read_text()))
    return infos


def make_extractors(streams: Mapping[str, StreamInfo]) -> dict[str, Callable[..., Record]]:
    """Return each stream's extractor, with the settings with which the stream was built."""
    return {
        name: load(name).make_extractor(check(info.settings, load(name).settings, name))
        for name, info in streams.items()
    }


def extract(make: Callable[..., Record], inputs: Iterable[Raw | Record]) -> Record:
    """Return a stream's record of a clip from the clip's inputs; the first rejected input if there is one.

    If the extractor fails, the clip is rejected, with the attribute TRACEBACK. An InputError concerns more than one clip.
    """
    inputs = list(inputs)
    refused = next((record for record in inputs if isinstance(record, Record) and record.refused), None)
    try:
        return refused or make(*inputs)
    except InputError:
        raise
    except Exception as error:
        reason, trace = describe_internal_error(error)
        return Record(inputs[0].clip, attributes={TRACEBACK: trace}, refused=reason)


def check_enabled(parameters: Mapping[str, Any]) -> None:
    """Check in the complete parameters that every stream which an encoder in use reads is enabled, and so are its inputs.

    Raises InputError for the first stream that is not. Unknown names are left to the checks of their sections.
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
    """Return the names of a stream and of all its inputs, each after its own inputs."""
    above = [one for of in load(name).inputs if of != RAW for one in list_with_inputs(of)]
    return list(dict.fromkeys([*above, name]))


def step_times(record: Record) -> np.ndarray:
    """Return the seconds (T,) of a record's steps."""
    return record.arrays["times"][()] if "times" in record.arrays else np.zeros(1)


def present_steps(record: Record) -> np.ndarray:
    """Return the indices of the steps that can be read."""
    return (
        np.flatnonzero(record.arrays["found"][()]) if "found" in record.arrays else np.arange(len(step_times(record)))
    )


def choose_evenly(present: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` of the indices `present`, evenly spaced, with the first and the last; all if there are fewer."""
    if len(present) <= count:
        return present
    return present[np.linspace(0, len(present) - 1, count).astype(int)]


def pool_steps(stream: Stream, record: Record) -> np.ndarray:
    """Return one vector for a clip's record of a stream of vectors: each array's mean over time, and its standard deviation
    if it has several steps."""
    chosen = present_steps(record)
    parts = []
    for array in stream.arrays or ("",):
        values = stream.read(record, chosen, array)
        parts += [values.mean(0)] + ([values.std(0)] if len(values) > 1 else [])
    return np.concatenate(parts)
