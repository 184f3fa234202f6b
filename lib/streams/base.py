"""The interface of a stream, its lookup by name, and access to the steps of a clip."""

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lib.core.errors import InputError, SettingError
from lib.core.parameters import Section, check
from lib.core.records import Raw as Raw
from lib.core.records import Record as Record
from lib.core.records import choose_evenly as choose_evenly
from lib.core.records import present_steps as present_steps
from lib.core.records import step_times as step_times
from lib.core.registry import list_members

# a point is x and y in pixels from the image's upper left corner; (0.5, 0.5) is the centre of the first pixel; NaN if absent
Kind = Literal["pictures", "flow", "points", "vectors", "waveform"]
"""Contents of a step: RGB uint8 (3, H, W), displacements in pixels (2, H, W), points (P, 2), numbers (D,), or consecutive
audio samples (N,) in [-1, 1]. Unlike vectors, audio samples are not averaged over a clip for the baselines."""

Vectors = Literal["bands", "words", "numbers"]
"""What the vectors of a stream are, for augmentation: frequency bands of audio, words, or other numbers."""

RAW = "raw"
"""The name of the clip itself among a stream's inputs."""

ABOUT = "stream.json"
"""The file in a stream's folder with its settings and the shapes of its steps."""

TRACEBACK = "traceback"
"""An attribute of a record of a failed clip; it is not written to the shard."""

NAMES = "names"
"""An attribute of a record with the names of the numbers of each array, as JSON."""

_CONTRACT = ("base", "build")
"""Modules of this folder that other packages use and that are not streams."""


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
        RAW), in the order of `inputs`, to its Record. A clip that can't be used gets a Record with `rejected`, a reason that
        begins with the stream's name and a colon.
    read_steps: takes a record and the indices (K,) of steps and returns their values (K, ...). If the stream has `arrays`,
        the third argument is the name of an array.

    A record's array `times` (T,) contains the times of its steps in seconds; without it, the clip has one step at 0 s. The
    array `found` (T,) is optional and 0 for absent steps. An array with other steps has its own times, `ARRAY.times`.

    All other fields have defaults:
    arrays: names of the arrays that encoders can read; the first is the default. kinds: the kind of each array that differs
        from `kind`. vectors: what the vectors are, for augmentation.
    detailed: arrays that have the contents of others in more steps; the baselines do not read them.
    groups: for a stream of named measures: measure -> its group, for instance pitch -> head.
    table_columns: for a stream whose numbers have names: name -> its column and factor in tables for other programs.
    on_gpu: whether the extractor uses a GPU if one is available.
    costly: whether the stage measures the first clips, and prints the time and the disk space that all clips need.
    input_key: the key of the settings that chooses the inputs: its value is the only input, one of `inputs`, or a key of
        `joint_inputs`. Without it, all are inputs.
    joint_inputs: for values of that key that stand for several inputs, these inputs.
    files: takes the settings and returns the files that they name or that a package ships, such as weights.
    annotation_files: takes the settings and a corpus' folder of annotations and returns the files that the stream reads.
        The contents of both enter the fingerprint: shards are rebuilt if one of them changes.
    validate_inputs: raises InputError if the settings contradict the settings of an input stream.
    summary: takes the folder of shards and returns numbers for metrics/NAME.json.
    warnings: takes a record and returns reasons to doubt a prediction from it.
    statistics: takes a record and returns input statistics by name. A prediction warns if one lies outside the range of the
        training clips.
    """

    inputs: tuple[str, ...]
    kind: Kind
    settings: type[StreamSettings]
    make_extractor: Callable[[Any], Callable[..., Record]]
    read_steps: Callable[..., np.ndarray]
    arrays: tuple[str, ...] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    vectors: Vectors = "numbers"
    detailed: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    table_columns: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    on_gpu: bool = False
    costly: bool = False
    input_key: str = ""
    joint_inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
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

    @property
    def pooled_arrays(self) -> list[str]:
        """Return the names of the arrays that baselines read; an empty name for a stream without names of arrays."""
        return [name for name in self.arrays or ("",) if name not in self.detailed]

    def inputs_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the inputs for these settings. Their check reports an invalid value; here it counts as the first input."""
        if not self.input_key:
            return self.inputs
        chosen = settings.get(self.input_key)
        first = chosen if chosen in {*self.inputs, *self.joint_inputs} else self.inputs[0]
        return self.joint_inputs.get(first, (first,))

    def kind_of(self, array: str) -> Kind:
        """Return the kind of one step of an array."""
        return self.kinds.get(array, self.kind)

    def read(self, record: Record, indices: np.ndarray, array: str) -> np.ndarray:
        """Return the values (K, ...) of the steps `indices` (K,) of an array."""
        return self.read_steps(record, indices, array) if self.arrays else self.read_steps(record, indices)


def list_names() -> list[str]:
    """Return the names of all streams: the modules of this folder, except helpers, whose names begin with "_"."""
    return list_members(Path(__file__).parent, _CONTRACT)


@cache
def load(name: str) -> Stream:
    """Return the stream of that name. Raises InputError for an unknown name."""
    if name not in list_names():
        raise InputError(f"unknown stream {name!r}; allowed: {', '.join(list_names())}, the modules of lib/streams")
    return replace(importlib.import_module(f"{__package__}.{name}").STREAM, name=name)


class StreamInfo(NamedTuple):
    """The contents of stream.json: the settings of a stream, and the shape of one step of each of its arrays."""

    settings: dict[str, Any]
    shapes: dict[str, list[int]]


def take_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return the steps `indices` (K,) of an array, or an empty array (K, 0) if the stream was built without this array."""
    return record.arrays[array][()][indices] if array in record.arrays else np.zeros((len(indices), 0), np.float32)


def require_enabled(stream: str, enabled: bool, needed_by: str, otherwise: str = "") -> None:
    """Raise SettingError if a needed stream is disabled. needed_by: a clause. otherwise: another way out, after a comma."""
    if not enabled:
        raise SettingError(
            f"{stream}.enabled = false, but {needed_by}; allowed: true; set {stream}.enabled to true{otherwise}"
        )


def load_stream_info(
    data: Path, streams: Iterable[str], needed_by: str = "the stream is needed", otherwise: str = ""
) -> dict[str, StreamInfo]:
    """Return the info of streams and of all their inputs, from the folders in `data`. Inputs come first.

    Raises SettingError for a disabled stream, with `needed_by` and `otherwise` as in `require_enabled`.
    """
    infos: dict[str, StreamInfo] = {}
    for name in streams:
        path = data / name / ABOUT
        require_enabled(name, path.exists(), needed_by, otherwise)
        info = StreamInfo(**json.loads(path.read_text()))
        infos |= {key: value for key, value in load_input_info(data, name, info.settings).items() if key not in infos}
        infos[name] = info
    return infos


def load_input_info(data: Path, name: str, settings: Mapping[str, Any]) -> dict[str, StreamInfo]:
    """Return the info of all inputs of the stream `name`. Raises SettingError for a disabled input."""
    inputs = [input_name for input_name in load(name).inputs_of(settings) if input_name != RAW]
    return load_stream_info(data, inputs, f"{name} is made from it", f", or {name}.enabled to false")


def make_extractors(streams: Mapping[str, StreamInfo]) -> dict[str, Callable[..., Record]]:
    """Return each stream's extractor, with the settings that the stream was built with."""
    return {
        name: load(name).make_extractor(check(info.settings, load(name).settings, name))
        for name, info in streams.items()
    }


def check_enabled(parameters: Mapping[str, Any]) -> None:
    """Check that all streams that the encoders in use read, and the inputs of these streams, are enabled.

    parameters: the complete params.yaml. Raises InputError for the first disabled stream. Unknown names are reported when
    their sections are checked.
    """
    encoders = parameters["model"]["encoders"]
    for encoder in parameters["model"]["use"]:
        for reference in encoders.get(encoder, {}).get("reads", []):
            name = reference.partition(".")[0]
            for needed in list_with_inputs(name, parameters) if name in list_names() else ():
                reason = f"model.use has {encoder} and model.encoders.{encoder}.reads has {reference}"
                reason += f", which is made from {needed}" if needed != name else ""
                require_enabled(needed, parameters[needed]["enabled"], reason, f", or remove {encoder} from model.use")


def list_with_inputs(name: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the names of a stream and of all its inputs. Inputs come first. settings: of each stream, by its name."""
    dependencies = [
        dependency
        for input_name in load(name).inputs_of(settings[name])
        if input_name != RAW
        for dependency in list_with_inputs(input_name, settings)
    ]
    return list(dict.fromkeys([*dependencies, name]))


def read_names(record: Record) -> dict[str, list[str]]:
    """Return the names of the numbers of each array of a record; an empty dictionary for streams without names."""
    return dict(json.loads(record.attributes.get(NAMES, "{}")))


def pool_steps(stream: Stream, record: Record, deviations: bool) -> np.ndarray:
    """Return one vector for a clip of a stream of vectors: the mean of each array over time, with `deviations` followed by
    the standard deviation. Steps (L, D) with several layers are averaged over the layers first."""
    parts = []
    for array in stream.pooled_arrays:
        values = stream.read(record, present_steps(record, array), array)
        values = values.astype(np.float32).mean(1) if values.ndim == 3 else values
        parts += [values.mean(0)] + ([values.std(0)] if deviations else [])
    return np.concatenate(parts)
