"""Arrays of a shard that stay in the user's files: the shard has their place, and reading takes the rows that are needed."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np

from lib.core import resume
from lib.core.errors import InputError

SUFFIXES = (".h5", ".hdf5", ".npz", ".pt")
"""Files of arrays that are read in place: the stage download does not copy them to data/raw/."""

_ATTRIBUTE = "parts of "
_OPEN = 256  # files
_SPARSE = 4
"""Rows are read one by one if they are less than this fraction of all: 1 / 4."""


class FileArray(NamedTuple):
    """An array (T, ...) of numbers in a file.

    offset: of its first byte in the file, for numbers that are stored in sequence without compression. key: name of the data
    set of an HDF5 file, for all others. path: relative to the project's folder, or absolute. sha256: of the file.
    """

    path: str
    sha256: str
    shape: tuple[int, ...]
    dtype: str
    offset: int | None = None
    key: str = ""

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def read(self, index: Any = ()) -> np.ndarray:
        """Return some rows, or all. Raises InputError if the file is missing or was changed."""
        path = _verify(self.path, self.sha256, Path.cwd())
        if self.offset is None:
            values = _open(path, self.sha256)[self.key][()]
        elif isinstance(index, np.ndarray) and 0 < len(index) * _SPARSE < self.shape[0]:
            size = self.nbytes // self.shape[0]
            values = np.stack([self._read_bytes(path, int(row) * size, size) for row in index])
            return values.view(self.dtype).reshape(-1, *self.shape[1:])
        else:
            values = self._read_bytes(path, 0, self.nbytes).view(self.dtype)
        return np.asarray(values.reshape(self.shape)[index])

    def _read_bytes(self, path: Path, start: int, size: int) -> np.ndarray:
        """Return bytes of the array. The system keeps them in memory for the next access as long as there is space."""
        assert self.offset is not None
        values, done = np.empty(size, np.uint8), 0
        while done < size:
            place = self.offset + start + done
            count = os.preadv(_open_bytes(path, self.sha256).fileno(), [values.data[done:]], place)
            if not count:
                raise InputError(f"{path} ends at byte {place}; it was changed while it was read, start again")
            done += count
        return values


class Absent(NamedTuple):
    """An array of missing numbers (NaN)."""

    shape: tuple[int, ...]
    dtype: str
    nbytes: int = 0

    def read(self, index: Any = ()) -> np.ndarray:
        """Return some rows, or all."""
        return np.broadcast_to(np.array(np.nan, self.dtype), self.shape)[index]


_KINDS: dict[type, str] = {FileArray: "Reference", Absent: "Absent"}
"""Names of the parts in a shard. Files of earlier versions have them, so they stay the same."""


class Joined:
    """An array (T, ..., D) of several parts that are joined along the last axis, each in memory, in the shard, or in a file.

    It has 16 bits if all parts have, else 32. `joined[()]` reads it completely, `joined[indices]` some rows.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)
        self.shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        self.dtype = np.dtype(np.float16 if all(np.dtype(part.dtype) == np.float16 for part in parts) else np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        parts = [_read(part, index) for part in self.parts]
        return np.concatenate(parts, -1, dtype=self.dtype) if len(parts) > 1 else parts[0].astype(self.dtype)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the parts that a shard stores."""
        return sum(part.nbytes for part in self.parts if not isinstance(part, FileArray))

    @property
    def referenced_bytes(self) -> int:
        """Return the bytes of the parts that stay in the user's files."""
        return sum(part.nbytes for part in self.parts if isinstance(part, FileArray))

    def store(self, name: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
        """Return the attributes and the arrays that a shard stores for the array `name`; `load` is the reverse."""
        parts: list[Any] = []
        arrays: dict[str, np.ndarray] = {}
        for number, part in enumerate(self.parts):
            if isinstance(part, FileArray | Absent):
                parts.append({_KINDS[type(part)]: part})
            else:
                parts.append(f"{name}.{number}")
                arrays[parts[-1]] = part
        return {_ATTRIBUTE + name: json.dumps(parts)}, arrays


def load(attributes: dict[str, Any], arrays: Mapping[str, Any]) -> dict[str, Joined]:
    """Return the arrays of a record that have parts in files, by name, and remove their descriptions from `attributes`."""
    if not any(name.startswith(_ATTRIBUTE) for name in attributes):
        return {}
    joined = {}
    for attribute in [name for name in attributes if name.startswith(_ATTRIBUTE)]:
        parts = json.loads(attributes.pop(attribute))
        joined[attribute.removeprefix(_ATTRIBUTE)] = Joined(
            [arrays[part] if isinstance(part, str) else _restore(part) for part in parts]
        )
    return joined


def _restore(part: Mapping[str, Sequence[Any]]) -> FileArray | Absent:
    if _KINDS[Absent] in part:
        shape, dtype, _ = part[_KINDS[Absent]]
        return Absent(tuple(shape), dtype)
    path, sha256, shape, dtype, offset, key = part[_KINDS[FileArray]]
    return FileArray(path, sha256, tuple(shape), dtype, offset, key)


def _read(part: Any, index: Any) -> np.ndarray:
    if isinstance(part, FileArray | Absent):
        return part.read(index)
    return np.asarray(part[()][index])  # h5py selects rows slowly


@cache
def _verify(path: str, sha256: str, folder: Path) -> Path:
    """Return where a file is now: below `folder` or, for a queued experiment, below a folder that contains it.

    Raises InputError if it is missing or has another checksum.
    """
    folders = (folder, *folder.parents)
    place = next((parent / path for parent in folders if (parent / path).is_file()), None)
    if place is None:
        raise InputError(
            f"{path} is missing, and the shards of features refer to it; put it back or link it there. For a file"
            " elsewhere change features.files and run `dvc repro`. features.in_place = false copies features into the shards"
        )
    if resume.hash_unchanged(place) != sha256:
        raise InputError(
            f"{path} has changed since the stage features read it; run `python -m tools.archives` and `dvc repro` to use"
            " the new file (outside data/archives/: `dvc repro -f features`), or put the earlier file back"
        )
    return place


@lru_cache(_OPEN)
def _open_bytes(path: Path, sha256: str) -> BinaryIO:
    """Return an open file. Processes that are forked may read it at the same time, because each read names its place."""
    return path.open("rb", buffering=0)


@lru_cache(_OPEN)
def _open(path: Path, sha256: str) -> h5py.File:
    return h5py.File(path)
