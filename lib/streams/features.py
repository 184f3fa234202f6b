"""Vectors that the user already has of every clip, from tables and arrays beside the corpus."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, Stream, StreamSettings

_SUFFIXES = (".csv", ".parquet", ".npz", ".h5", ".hdf5")
_CLIP = ("clip", "file", "id", "videoname")
_NONE = ["", "NA", "N/A", "n/a", "NaN", "nan", "None", "null", "NULL", "<NA>"]
_SECONDS = "seconds"  # not "time": that is a category of words in LIWC


class Settings(StreamSettings):
    """files: patterns of file names; a pattern's hold different clips, the patterns different numbers."""

    files: Annotated[list[str], Field(min_length=1)]


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return what looks up a clip's vectors."""
    return lambda raw: look_up(raw, settings.files)


def read_steps(record: Record, chosen: np.ndarray) -> np.ndarray:
    """Return vectors (K, D)."""
    return record.arrays["values"][()][chosen]


def annotation_files(settings: Settings, annotations: Path) -> list[Path]:
    """Return the files that the patterns find in a corpus' folder of annotations.

    Raises InputError if a pattern finds none, or a file of another kind.
    """
    return [path for pattern in settings.files for path in _matching(pattern, annotations)]


def summary(folder: Path) -> dict[str, Any]:
    """Count the steps."""
    return {"steps": sum(map(len, shards.read_arrays(folder, "times")))}


def look_up(raw: Raw, patterns: list[str]) -> Record:
    """Return a clip's `values` (T, D), float32, one pattern's numbers beside the next's, and `times` (T,).

    A clip that is not in the files of each pattern, lacks a number, or has not as many steps in all of them, is refused.
    """
    if raw.annotations is None:
        return Record(raw.clip, refused="features: a clip outside the corpus has none")
    parts_found: list[tuple[np.ndarray, np.ndarray]] = []
    for pattern in patterns:
        of_pattern = next(
            (candidate for path in _matching(pattern, raw.annotations) if (candidate := _vectors(path, raw.clip))), None
        )
        if of_pattern is None:
            return Record(raw.clip, refused=f"features: not in {pattern}")
        if not all(np.isfinite(part).all() for part in of_pattern):
            return Record(raw.clip, refused=f"features: {pattern} lacks a number")
        parts_found.append(of_pattern)
    times = parts_found[0][0]
    for pattern, (other, _) in zip(patterns, parts_found, strict=True):
        if not np.array_equal(times, other):
            return Record(raw.clip, refused=f"features: {pattern} has other times than {patterns[0]}")
    parts = {name: values.shape[1] for name, (_, values) in zip(_names(patterns), parts_found, strict=True)}
    values = np.concatenate([values for _, values in parts_found], 1)
    return Record(raw.clip, {"values": values, "times": times}, {"parts": json.dumps(parts)})


def _names(patterns: list[str]) -> list[str]:
    """Return a name for each pattern: `liwc` for `liwc_*.csv`, the pattern itself where two would have one name."""
    short = [re.split(r"[*?.\[]", pattern)[0].strip("_-") for pattern in patterns]
    return short if all(short) and len(set(short)) == len(short) else patterns


def _matching(pattern: str, annotations: Path) -> list[Path]:
    paths = sorted(annotations.glob(pattern))
    if not paths:
        raise InputError(
            f"params.yaml: features.files has {pattern!r}, but nothing below data/archives/ is named so; there are:"
            f" {', '.join(path.name for path in sorted(annotations.glob('*'))) or 'none'}"
        )
    for path in paths:
        if path.suffix not in _SUFFIXES:
            raise InputError(
                f"params.yaml: features.files finds {path.name}; allowed are files of {', '.join(_SUFFIXES)}"
            )
    return paths


def _vectors(path: Path, clip: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the times (T,) and vectors (T, D) of a clip in a file, which names it with its suffix or without."""
    opened = _open(path)
    name = next((candidate for candidate in (clip, clip.rpartition(".")[0]) if candidate in opened), None)
    if name is None:
        return None
    held = opened[name]
    if isinstance(held, tuple):
        return held
    beside = f"{name}:times"
    if isinstance(held, h5py.Group):
        held, times = held["values"], held.get("times")
    else:
        times = opened.get(beside)
    values = np.atleast_2d(np.asarray(held, np.float32))
    if times is None and len(values) > 1:
        raise InputError(f"{path.name}: {name} has {len(values)} vectors and no times; put their seconds in {beside!r}")
    seconds = np.zeros(1) if times is None else np.asarray(times, float)
    if len(seconds) != len(values):
        raise InputError(f"{path.name}: {name} has {len(values)} vectors and {len(seconds)} times; allowed: as many")
    return seconds, values


@cache
def _open(path: Path) -> Mapping[str, Any]:
    """Return what a file holds by clip: times and vectors of a table, arrays of others as they are asked for."""
    import pandas as pd  # the stage of a disabled stream ends sooner without it

    if path.suffix == ".npz":
        return np.load(path)
    if path.suffix in (".h5", ".hdf5"):
        return h5py.File(path)
    if path.suffix == ".csv":
        header = list(pd.read_csv(path, nrows=0))
        names = [column for column in header if column.lower() in _CLIP]
        numbers = {column: _NONE for column in header if column not in names[:1]}
        # 007 is no 7, and a clip may be called NA
        table = pd.read_csv(path, dtype=dict.fromkeys(names[:1], str), keep_default_na=False, na_values=numbers)
    else:
        table = pd.read_parquet(path)
        names = [column for column in table if str(column).lower() in _CLIP]
    if not names:
        raise InputError(
            f"{path.name} has the columns {', '.join(map(str, table))}; one of clips is needed, named {', '.join(_CLIP)}"
        )
    numbers = table.drop(columns=names[0])
    if wrong := [str(column) for column in numbers if not pd.api.types.is_numeric_dtype(numbers[column])]:
        raise InputError(f"{path.name}: column {wrong[0]} holds other things than numbers; remove or correct it")
    times = numbers.pop(_SECONDS) if _SECONDS in numbers else pd.Series(0.0, table.index)
    values = numbers.to_numpy(np.float32)
    held: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for clip, rows in table.groupby(table[names[0]].astype(str)).indices.items():
        of_clip = times.to_numpy(float)[rows]
        order = np.argsort(of_clip, kind="stable")
        if (twice := np.flatnonzero(np.diff(of_clip[order]) == 0)).size:
            first, second = rows[order[twice[0] : twice[0] + 2]] + 2
            raise InputError(f"{path.name} has clip {clip} twice, in rows {first} and {second}; allowed: once a time")
        held[str(clip)] = of_clip[order], values[rows][order]
    return held


STREAM = Stream(
    inputs=(RAW,),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    annotation_files=annotation_files,
    summary=summary,
)
