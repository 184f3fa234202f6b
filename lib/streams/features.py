"""Feature vectors that the user already has for every clip, from tables and arrays. Arrays stay in their files."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.errors import InputError
from lib.core.references import Absent, Joined
from lib.core.shards import Record
from lib.streams import _feature_files, _tensors
from lib.streams._feature_files import Vectors
from lib.streams.base import RAW, Raw, Stream, StreamSettings


class Settings(StreamSettings):
    """files: patterns of file names. Files of one pattern contain different clips, different patterns other features.
    missing: whether clips that lack a pattern's features are dropped or kept. in_place: whether shards refer to arrays in
    the user's files, where that is possible, instead of containing a copy."""

    files: Annotated[list[str], Field(min_length=1)]
    missing: Literal["drop", "keep"] = "drop"
    in_place: bool = True


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that looks up a clip's vectors."""
    return lambda raw: look_up(raw, settings.files, settings.missing, settings.in_place)


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return vectors (K, D), or (K, L, D) of several layers, as float32."""
    values = record.arrays["values"]
    return np.asarray(values[indices] if isinstance(values, Joined) else values[()][indices], np.float32)


def annotation_files(settings: Settings, annotations: Path) -> list[Path]:
    """Return the files that match the patterns. annotations: a corpus' folder of copied files.

    Raises InputError if a pattern matches no file, or a file of an unknown type.
    """
    matches = [_feature_files.match(pattern, annotations) for pattern in settings.files]
    return [path for files in matches for path in (*files.tables, *files.tensors.values())]


def summary(folder: Path) -> dict[str, Any]:
    """Count the steps."""
    return {"steps": sum(map(len, shards.read_arrays(folder, "times", default=np.zeros(1))))}


def look_up(raw: Raw, patterns: list[str], missing: Literal["drop", "keep"] = "drop", in_place: bool = False) -> Record:
    """Return a clip's `values` (T, D) with the features of all patterns concatenated, and `times` (T,) unless
    it is one vector at 0 s.

    Vectors of several layers are `values` (T, L, D). They are float32, or float16 if all files are. A clip is rejected if a
    pattern's files do not contain it, if a number is missing, or if its times or its number of layers differ between
    patterns. With "keep", the features of a pattern without the clip are NaN, missing numbers stay NaN, and a clip is
    rejected if no pattern has it. With `in_place`, `values` refers to files of uncompressed or HDF5 arrays.
    """
    if raw.annotations is None:
        return Record(raw.clip, rejected="features: not available for a clip outside the corpus")
    available: dict[str, Vectors] = {}
    for pattern in patterns:
        vectors = _find(raw, pattern, raw.annotations)
        if vectors is None and missing == "keep":
            continue
        if vectors is None:
            return Record(raw.clip, rejected=f"features: not in {pattern}")
        if isinstance(vectors, str):
            return Record(raw.clip, rejected=f"features: {pattern}: {vectors}")
        invalid = np.isinf(vectors.values) if missing == "keep" else ~np.isfinite(vectors.values)
        if invalid.any() or not np.isfinite(vectors.times).all():
            return Record(raw.clip, rejected=f"features: {pattern} lacks a number")
        available[pattern] = vectors
    if not available:
        return Record(raw.clip, rejected="features: in no file")
    leading, first = next(iter(available.items()))
    for pattern, other in available.items():
        if not np.array_equal(first.times, other.times):
            return Record(raw.clip, rejected=f"features: {pattern} has other times than {leading}")
        if other.values.shape[1:-1] != first.values.shape[1:-1]:
            return Record(raw.clip, rejected=f"features: {pattern} has other layers than {leading}")
    joined = Joined(
        [
            (available[pattern].locate() if in_place else None) or available[pattern].values
            if pattern in available
            else _absent(raw, pattern, first.values)
            for pattern in patterns
        ]
    )
    arrays: dict[str, Any] = {"values": joined if joined.referenced_bytes else joined[()]}
    if first.times.any() or len(first.times) > 1:  # one vector has no time: reading a second array takes as long
        arrays["times"] = first.times
    sizes = {name: part.shape[-1] for name, part in zip(_names(patterns), joined.parts, strict=True)}
    return Record(raw.clip, arrays, {"parts": json.dumps(sizes)} if len(sizes) > 1 else {})


def _absent(raw: Raw, pattern: str, like: np.ndarray) -> Absent:
    """Return NaN for a pattern without the clip, in the width of its other clips, with the times and layers of `like`."""
    assert raw.annotations is not None
    width, dtype = _measure_width(pattern, raw.annotations)
    return Absent((*like.shape[:-1], width), dtype.str)


@cache
def _measure_width(pattern: str, annotations: Path) -> tuple[int, np.dtype]:
    """Return the number of features and the type of a pattern, from its first clip. Raises InputError if it has none."""
    files = _feature_files.match(pattern, annotations)
    for name, path in files.tensors.items():
        vectors = _tensors.read_vectors(path, Raw(name, None, annotations))
        if not isinstance(vectors, str):
            return vectors.values.shape[-1], vectors.values.dtype
    for path in files.tables:
        for name in _feature_files.open_file(path):
            if not name.endswith(":times") and (clip := _feature_files.read_clip(path, name)) is not None:
                return clip.values.shape[-1], clip.values.dtype
    raise InputError(f"features.files has {pattern!r}, whose files contain no clip; remove the pattern")


def _find(raw: Raw, pattern: str, annotations: Path) -> Vectors | str | None:
    """Return a clip's vectors in the files of a pattern, why its file can't be used, or None without a file."""
    files, names = _feature_files.match(pattern, annotations), _feature_files.name_clip_entries(raw.clip)
    if path := next((files.tensors[name] for name in names if name in files.tensors), None):
        return _tensors.read_vectors(path, raw)
    return next((vectors for path in files.tables if (vectors := _feature_files.read_clip(path, raw.clip))), None)


def _names(patterns: list[str]) -> list[str]:
    """Return a short name for each pattern (`liwc` for `liwc_*.csv`), or the patterns if short names are not unique."""
    names = [Path(pattern).name if Path(pattern).is_absolute() else pattern for pattern in patterns]
    short = [re.split(r"[*?.\[]", name)[0].strip("_-") for name in names]
    return short if all(short) and len(set(short)) == len(short) else patterns


STREAM = Stream(
    inputs=(RAW,),
    kind="vectors",
    costly=True,
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    annotation_files=annotation_files,
    summary=summary,
)
