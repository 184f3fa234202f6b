"""The user's files of features: which files a pattern matches, and the vectors of a clip in them."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import h5py
import numpy as np

from lib.core import references, resume
from lib.core.artifacts import ARCHIVES
from lib.core.errors import InputError, SettingError
from lib.core.folders import walk_files
from lib.core.references import FileArray
from lib.streams import _places

PT = ".pt"
"""Suffix of files that contain one clip."""
_SUFFIXES = (".csv", ".parquet", *references.SUFFIXES)
_CLIP = ("clip", "file", "id", "videoname")
_NONE = ["", "NA", "N/A", "n/a", "NaN", "nan", "None", "null", "NULL", "<NA>"]
_SECONDS = "seconds"  # not "time", which is a word category of LIWC


class Vectors(NamedTuple):
    """A clip's times (T,) in seconds and vectors (T, D) or (T, L, D). locate: returns their place in the file, None for
    files such as tables that have to be converted."""

    times: np.ndarray
    values: np.ndarray
    locate: Callable[[], FileArray | None] = lambda: None


class Files(NamedTuple):
    """The files of a pattern: those that contain several clips, and by clip those that contain one."""

    tables: list[Path]
    tensors: dict[str, Path]


def match(pattern: str, annotations: Path) -> Files:
    """Return the files of a pattern. Raises InputError if no file matches, or if the type of a file is unknown.

    A pattern is a path below data/archives/ or an absolute path, with * and ?. annotations: the folder of a corpus with the
    files that the stage download copied or unpacked.
    """
    return _match(pattern, annotations, Path.cwd())


def name_clip_entries(clip: str) -> tuple[str, str]:
    """Return the names by which a file can name a clip: with and without suffix."""
    return clip, clip.rpartition(".")[0]


def read_clip(path: Path, clip: str) -> Vectors | None:
    """Return a clip's vectors in a file of several clips, or None. The file names the clip with or without suffix.

    Raises InputError for a file that can't be read, or vectors without times.
    """
    opened = open_file(path)
    name = next((candidate for candidate in name_clip_entries(clip) if candidate in opened), None)
    if name is None:
        return None
    entry = opened[name]
    if isinstance(entry, Vectors):
        return entry
    times_key = f"{name}:times"
    if isinstance(entry, h5py.Group):
        entry, times = entry["values"], entry.get("times")
    else:
        times = opened.get(times_key)
    stored = np.asarray(entry)
    locate: Callable[[], FileArray | None] = (
        partial(_places.find_dataset, path, entry, stored)
        if isinstance(entry, h5py.Dataset)
        else partial(_places.find_npz_entry, path, opened.zip, name, stored)  # type: ignore[attr-defined]
    )
    values = np.atleast_2d(stored)
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
    return Vectors(seconds, values, locate)


@cache
def _match(pattern: str, annotations: Path, project: Path) -> Files:
    paths = _list_files(pattern, annotations)
    if not paths:
        others = sorted({path.name for path in annotations.glob("*")} | {str(place) for place in _list_in_place()})
        raise SettingError(
            f"features.files has {pattern!r}, which matches no file below data/archives/; files there:"
            f" {', '.join(others[:20]) or 'none'}"
        )
    for path in paths:
        if path.suffix not in _SUFFIXES:
            raise SettingError(f"features.files matches {path.name}; allowed: files that end in {', '.join(_SUFFIXES)}")
    tensors: dict[str, Path] = {}
    for path in (path for path in paths if path.suffix == PT):
        if path.stem in tensors:
            raise SettingError(
                f"features.files has {pattern!r}, which matches {tensors[path.stem]} and {path}; allowed: one file per"
                " clip; write a pattern for each folder"
            )
        tensors[path.stem] = path
    return Files([path for path in paths if path.suffix != PT], tensors)


def _list_files(pattern: str, annotations: Path) -> list[Path]:
    """Return the files that match a pattern: copied or unpacked ones, and those that are read in place."""
    if PurePath(pattern).is_absolute():
        root = Path(pattern).anchor
        return sorted(Path(root).glob(pattern.removeprefix(root)))
    depth = len(PurePath(pattern).parts)
    in_place = [path for place, path in _list_in_place().items() if len(place.parts) == depth and place.match(pattern)]
    return sorted(annotations.glob(pattern)) + in_place


def _list_in_place() -> dict[PurePath, Path]:
    """Return the files of arrays in data/archives/ by the path that patterns match: PT files with their folders, others by
    name, as in the copies of other files.

    Raises InputError for two different files of one name.
    """
    files: dict[PurePath, Path] = {}
    for path in walk_files(ARCHIVES) if ARCHIVES.is_dir() else ():
        if path.suffix not in references.SUFFIXES:
            continue
        place = path.relative_to(ARCHIVES) if path.suffix == PT else PurePath(path.name)
        first = files.setdefault(place, path)
        if first != path and resume.hash_unchanged(first) != resume.hash_unchanged(path):
            raise InputError(f"{first} and {path} are different files of one name; rename one of them")
    return files


@cache
def open_file(path: Path) -> Mapping[str, Any]:
    """Return a mapping from clip to content: Vectors for a table, lazily loaded arrays for other files."""
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
    vectors_of: dict[str, Vectors] = {}
    for clip, rows in table.groupby(table[names[0]].astype(str)).indices.items():
        seconds = times.to_numpy(float)[rows]
        order = np.argsort(seconds, kind="stable")
        if (twice := np.flatnonzero(np.diff(seconds[order]) == 0)).size:
            first, second = rows[order[twice[0] : twice[0] + 2]] + 2
            raise InputError(
                f"{path.name} has clip {clip} twice at the same time, in rows {first} and {second}; remove one of them"
            )
        vectors_of[str(clip)] = Vectors(seconds[order], values[rows][order])
    return vectors_of
