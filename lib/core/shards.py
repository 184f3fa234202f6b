"""HDF5 shards: one file for each sub-folder of the corpus, in it one group for each clip, arrays with time first."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.core.errors import InputError


@dataclass(frozen=True)
class Record:
    """What a shard holds of one clip: arrays and attributes, or the reason why it is refused."""

    clip: str
    arrays: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


def write_record(file: h5py.File, record: Record) -> None:
    """Add a clip to a shard; equal records in equal order make equal bytes."""
    group = file.create_group(record.clip)
    if record.refused:
        group.attrs["refused"] = record.refused
        return
    for name, value in record.attributes.items():
        group.attrs[name] = value
    for name, array in sorted(record.arrays.items()):
        if array.ndim < 3:
            dataset = group.create_dataset(name, data=array, track_times=False)
        else:  # pictures and flows: one chunk a time step, so that a few steps can be read alone
            chunks = (1, *array.shape[1:])
            dataset = group.create_dataset(name, data=array, chunks=chunks, compression="gzip", track_times=False)
        dataset.flush()  # else where its bytes lie depends on when Python frees it: a profiler, as Dask's, delays that


def read_records(path: Path) -> Iterator[Record]:
    """Yield a shard's clips in order of name, arrays in memory."""
    with open_shard(path) as file:
        for group in file.values():
            record = read_group(group)
            yield Record(
                record.clip, {name: data[()] for name, data in group.items()}, record.attributes, record.refused
            )


@contextmanager
def open_shard(path: Path) -> Iterator[h5py.File]:
    """Open a shard to read. Raises InputError, naming the file and the way out, if that fails then or later."""
    try:
        with h5py.File(path) as file:
            yield file
    except OSError as error:
        raise describe_unreadable(path, error) from None


def describe_unreadable(path: Path, error: Exception) -> InputError:
    """Return the error for a file that HDF5 can't read."""
    cause = " ".join(str(error).split())
    if not path.exists():
        way = "it is missing; `dvc repro` builds it"
    elif "unable to lock" in cause or "No locks" in cause:
        way = "its file system has no locks; set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
    else:
        way = f"it is damaged; remove {path.parent} and run `dvc repro`, which rebuilds it"
    return InputError(f"{path}: {way} ({cause})")


def read_group(group: h5py.Group) -> Record:
    """Return a clip's record with arrays still in the file (h5py's data sets), so that a few steps can be read alone."""
    attributes = dict(group.attrs)
    refused = attributes.pop("refused", "")
    return Record(group.name.removeprefix("/"), group, attributes, refused)


def clip_names(path: Path) -> list[str]:
    """Return the names of a shard's clips, refused ones too."""
    with open_shard(path) as file:
        return list(file)


def count_clips(folder: Path) -> int:
    """Return how many clips the shards of a folder hold, refused ones too."""
    return sum(len(clip_names(path)) for path in folder.glob("*.h5"))


def read_arrays(folder: Path, name: str) -> Iterator[np.ndarray]:
    """Yield the array `name` of each clip that is not refused, without reading the clip's other arrays."""
    return (group[name][()] for group in _groups(folder))


def read_attributes(folder: Path, name: str) -> Iterator[Any]:
    """Yield the attribute `name` of each clip that is not refused, without reading any array."""
    return (group.attrs[name] for group in _groups(folder))


def read_rejections(folder: Path) -> dict[str, str]:
    """Return the refused clips of a folder of shards and their reasons."""
    refused: dict[str, str] = {}
    for path in sorted(folder.glob("*.h5")):
        with open_shard(path) as file:
            refused |= {clip: group.attrs["refused"] for clip, group in file.items() if "refused" in group.attrs}
    return refused


def _groups(folder: Path) -> Iterator[h5py.Group]:
    for path in sorted(folder.glob("*.h5")):
        with open_shard(path) as file:
            yield from (group for group in file.values() if "refused" not in group.attrs)
