"""Feature vectors that the user already has for every clip, from tables and arrays in data/archives/."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.errors import InputError, SettingError
from lib.core.shards import Record
from lib.streams import _tensors
from lib.streams.base import RAW, Raw, Stream, StreamSettings

_SUFFIXES = (".csv", ".parquet", ".npz", ".h5", ".hdf5", _tensors.SUFFIX)
_CLIP = ("clip", "file", "id", "videoname")
_NONE = ["", "NA", "N/A", "n/a", "NaN", "nan", "None", "null", "NULL", "<NA>"]
_SECONDS = "seconds"  # not "time", which is a word category of LIWC


class Settings(StreamSettings):
    """files: patterns of file names. Files of one pattern contain different clips, different patterns other features.
    missing: whether clips that lack a pattern's features are dropped or kept."""

    files: Annotated[list[str], Field(min_length=1)]
    missing: Literal["drop", "keep"] = "drop"


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that looks up a clip's vectors."""
    return lambda raw: look_up(raw, settings.files, settings.missing)


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return vectors (K, D), or (K, L, D) of several layers, as float32."""
    return np.asarray(record.arrays["values"][()][indices], np.float32)


def annotation_files(settings: Settings, annotations: Path) -> list[Path]:
    """Return the files in a corpus' folder of annotations that match the patterns.

    Raises InputError if a pattern matches no file, or a file of an unknown type.
    """
    matches = [_matching(pattern, annotations) for pattern in settings.files]
    return [path for tables, tensors in matches for path in (*tables, *tensors.values())]


def summary(folder: Path) -> dict[str, Any]:
    """Count the steps."""
    return {"steps": sum(map(len, shards.read_arrays(folder, "times")))}


def look_up(raw: Raw, patterns: list[str], missing: Literal["drop", "keep"] = "drop") -> Record:
    """Return a clip's `values` (T, D) with the features of all patterns concatenated, and `times` (T,).

    Vectors of several layers are `values` (T, L, D). They are float32, or float16 if all files are. A clip is rejected if a
    pattern's files do not contain it, if a number is missing, or if its times or its number of layers differ between
    patterns. With "keep", the features of a pattern without the clip are NaN, missing numbers stay NaN, and a clip is
    rejected if no pattern has it.
    """
    if raw.annotations is None:
        return Record(raw.clip, refused="features: not available for a clip outside the corpus")
    available: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for pattern in patterns:
        vectors = _find(raw, pattern, raw.annotations)
        if vectors is None and missing == "keep":
            continue
        if vectors is None:
            return Record(raw.clip, refused=f"features: not in {pattern}")
        if isinstance(vectors, str):
            return Record(raw.clip, refused=f"features: {pattern}: {vectors}")
        times, values = vectors
        invalid = np.isinf(values) if missing == "keep" else ~np.isfinite(values)
        if invalid.any() or not np.isfinite(times).all():
            return Record(raw.clip, refused=f"features: {pattern} lacks a number")
        available[pattern] = vectors
    if not available:
        return Record(raw.clip, refused="features: in no file")
    leading, (times, first) = next(iter(available.items()))
    for pattern, (other, values) in available.items():
        if not np.array_equal(times, other):
            return Record(raw.clip, refused=f"features: {pattern} has other times than {leading}")
        if values.shape[1:-1] != first.shape[1:-1]:
            return Record(raw.clip, refused=f"features: {pattern} has other layers than {leading}")
    arrays = [available[pattern][1] if pattern in available else _absent(raw, pattern, first) for pattern in patterns]
    parts = {name: values.shape[-1] for name, values in zip(_names(patterns), arrays, strict=True)}
    return Record(raw.clip, {"values": np.concatenate(arrays, -1), "times": times}, {"parts": json.dumps(parts)})


def _absent(raw: Raw, pattern: str, like: np.ndarray) -> np.ndarray:
    """Return NaN for a pattern without the clip, in the width of its other clips, with the times and layers of `like`."""
    assert raw.annotations is not None
    width, dtype = _measure_width(pattern, raw.annotations)
    return np.full((*like.shape[:-1], width), np.nan, dtype)


@cache
def _measure_width(pattern: str, annotations: Path) -> tuple[int, np.dtype]:
    """Return the number of features and the type of a pattern, from its first clip. Raises InputError if it has none."""
    tables, tensors = _matching(pattern, annotations)
    for name, path in tensors.items():
        vectors = _tensors.read_vectors(path, Raw(name, None, annotations))
        if not isinstance(vectors, str):
            return vectors[1].shape[-1], vectors[1].dtype
    for path in tables:
        for name in _open(path):
            if not name.endswith(":times") and (values := _vectors(path, name)) is not None:
                return values[1].shape[-1], values[1].dtype
    raise InputError(f"features.files has {pattern!r}, whose files contain no clip; remove the pattern")


def _find(raw: Raw, pattern: str, annotations: Path) -> tuple[np.ndarray, np.ndarray] | str | None:
    """Return a clip's times and vectors in the files of a pattern, why its file can't be used, or None without a file."""
    tables, tensors = _matching(pattern, annotations)
    if path := next((tensors[name] for name in _names_of(raw.clip) if name in tensors), None):
        return _tensors.read_vectors(path, raw)
    return next((vectors for path in tables if (vectors := _vectors(path, raw.clip))), None)


def _names_of(clip: str) -> tuple[str, str]:
    """Return the names by which a file can name a clip: with and without suffix."""
    return clip, clip.rpartition(".")[0]


def _names(patterns: list[str]) -> list[str]:
    """Return a short name for each pattern (`liwc` for `liwc_*.csv`), or the patterns if short names are not unique."""
    short = [re.split(r"[*?.\[]", pattern)[0].strip("_-") for pattern in patterns]
    return short if all(short) and len(set(short)) == len(short) else patterns


@cache
def _matching(pattern: str, annotations: Path) -> tuple[list[Path], dict[str, Path]]:
    """Return the files of a pattern that contain several clips, and by clip those that contain one."""
    paths = sorted(annotations.glob(pattern))
    if not paths:
        raise SettingError(
            f"features.files has {pattern!r}, which matches no file below data/archives/; files there:"
            f" {', '.join(path.name for path in sorted(annotations.glob('*'))) or 'none'}"
        )
    for path in paths:
        if path.suffix not in _SUFFIXES:
            raise SettingError(f"features.files matches {path.name}; allowed: files that end in {', '.join(_SUFFIXES)}")
    tensors: dict[str, Path] = {}
    for path in (path for path in paths if path.suffix == _tensors.SUFFIX):
        if path.stem in tensors:
            raise SettingError(
                f"features.files has {pattern!r}, which matches {tensors[path.stem]} and {path}; allowed: one file per"
                " clip; write a pattern for each folder"
            )
        tensors[path.stem] = path
    return [path for path in paths if path.suffix != _tensors.SUFFIX], tensors


def _vectors(path: Path, clip: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a clip's times (T,) and vectors (T, D) or (T, L, D) in a file, or None.

    The file names the clip with or without suffix.
    """
    opened = _open(path)
    name = next((candidate for candidate in _names_of(clip) if candidate in opened), None)
    if name is None:
        return None
    entry = opened[name]
    if isinstance(entry, tuple):
        return entry
    times_key = f"{name}:times"
    if isinstance(entry, h5py.Group):
        entry, times = entry["values"], entry.get("times")
    else:
        times = opened.get(times_key)
    values = np.atleast_2d(np.asarray(entry))
    values = values if values.dtype == np.float16 else values.astype(np.float32)
    if times is None and len(values) > 1:
        raise InputError(
            f"{path.name}: {name} has {len(values)} vectors but no times; add times in seconds as {times_key!r}"
        )
    seconds = np.zeros(1) if times is None else np.asarray(times, float)
    if len(seconds) != len(values):
        raise InputError(
            f"{path.name}: {name} has {len(values)} vectors and {len(seconds)} times; allowed: equal numbers"
        )
    return seconds, values


@cache
def _open(path: Path) -> Mapping[str, Any]:
    """Return a mapping from clip to content: (times, vectors) for a table, lazily loaded arrays for other files."""
    import pandas as pd  # slow; a disabled stream does not need it

    if path.suffix == ".npz":
        return np.load(path)
    if path.suffix in (".h5", ".hdf5"):
        return h5py.File(path)
    if path.suffix == ".csv":
        header = list(pd.read_csv(path, nrows=0))
        names = [column for column in header if column.lower() in _CLIP]
        numbers = {column: _NONE for column in header if column not in names[:1]}
        # read clip names as text: 007 must not become 7, and NA can be a name
        table = pd.read_csv(path, dtype=dict.fromkeys(names[:1], str), keep_default_na=False, na_values=numbers)
    else:
        table = pd.read_parquet(path)
        names = [column for column in table if str(column).lower() in _CLIP]
    if not names:
        raise InputError(
            f"{path.name} has the columns {', '.join(map(str, table))}; required: a column of clips, called"
            f" {', '.join(_CLIP[:-1])} or {_CLIP[-1]}"
        )
    numbers = table.drop(columns=names[0])
    if wrong := [str(column) for column in numbers if not pd.api.types.is_numeric_dtype(numbers[column])]:
        raise InputError(f"{path.name}: column {wrong[0]} contains values that are not numbers; remove or correct it")
    times = numbers.pop(_SECONDS) if _SECONDS in numbers else pd.Series(0.0, table.index)
    values = numbers.to_numpy(np.float32)
    vectors_of: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for clip, rows in table.groupby(table[names[0]].astype(str)).indices.items():
        seconds = times.to_numpy(float)[rows]
        order = np.argsort(seconds, kind="stable")
        if (twice := np.flatnonzero(np.diff(seconds[order]) == 0)).size:
            first, second = rows[order[twice[0] : twice[0] + 2]] + 2
            raise InputError(
                f"{path.name} has clip {clip} twice at the same time, in rows {first} and {second}; remove one of them"
            )
        vectors_of[str(clip)] = seconds[order], values[rows][order]
    return vectors_of


STREAM = Stream(
    inputs=(RAW,),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    annotation_files=annotation_files,
    summary=summary,
)
