"""HDF5 shards: a file for each sub-folder of the corpus, with a group for each clip. The first axis of arrays is time."""

from collections import ChainMap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.core import references
from lib.core.errors import InputError
from lib.core.records import Record as Record
from lib.core.references import Joined


def write_record(file: h5py.File, record: Record) -> None:
    """Add a clip to a shard. Equal records in the same order give equal bytes."""
    group = file.create_group(record.clip)
    if record.rejected:
        group.attrs["rejected"] = record.rejected
        return
    arrays, attributes = dict(record.arrays), dict(record.attributes)
    for name, array in record.arrays.items():
        if isinstance(array, Joined):
            of_array, stored = array.store(name)
            attributes |= of_array
            arrays = {other: values for other, values in arrays.items() if other != name} | stored
    for name, value in attributes.items():
        group.attrs[name] = value
    for name, array in sorted(arrays.items()):
        if array.ndim < 3:
            dataset = group.create_dataset(name, data=array, track_times=False)
        else:  # pictures and flows: one chunk a time step, so that a few steps can be read alone
            chunks = (1, *array.shape[1:])
            dataset = group.create_dataset(name, data=array, chunks=chunks, compression="gzip", track_times=False)
        dataset.flush()  # else where its bytes lie depends on when Python frees it: a profiler, as Dask's, delays that


def read_records(path: Path) -> Iterator[Record]:
    """Yield a shard's clips in order of name, with their arrays in memory."""
    with open_shard(path) as file:
        for group in file.values():
            record = read_group(group)
            yield Record(
                record.clip,
                {name: data[()] for name, data in record.arrays.items()},
                record.attributes,
                record.rejected,
            )


def read_all(path: Path) -> dict[str, Record]:
    """Return all clips of a shard by name, with their arrays in memory, except those in the user's files. Many small arrays
    are read three times as fast as by `read_records`."""
    records = {}
    with open_shard(path) as file:
        for name in file:
            group = h5py.h5g.open(file.id, name.encode())
            attributes = dict(h5py.Group(group).attrs) if h5py.h5a.get_num_attrs(group) else {}
            arrays = {array.decode(): _read_array(group, array) for array in group}
            rejected = attributes.pop("rejected", "")
            records[name] = Record(name, arrays | references.load(attributes, arrays), attributes, rejected)
    return records


def _read_array(group: Any, name: bytes) -> np.ndarray:
    dataset = h5py.h5d.open(group, name)
    values = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


@contextmanager
def open_shard(path: Path) -> Iterator[h5py.File]:
    """Open a shard for reading. Raises InputError with the file and what to do if reading fails, also later."""
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
    """Return a clip's record with h5py data sets as arrays, so that single steps can be read."""
    attributes = dict(group.attrs)
    rejected = attributes.pop("rejected", "")
    joined = references.load(attributes, group)
    return Record(group.name.removeprefix("/"), ChainMap(joined, group) if joined else group, attributes, rejected)


def clip_names(path: Path) -> list[str]:
    """Return the names of a shard's clips, rejected ones included."""
    with open_shard(path) as file:
        return list(file)


def count_clips(folder: Path) -> int:
    """Return the number of clips in the shards of a folder, rejected ones included."""
    return sum(len(clip_names(path)) for path in folder.glob("*.h5"))


def read_arrays(folder: Path, name: str, default: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield the array `name` of each clip that is not rejected, without reading the clip's other arrays.

    default: the array of a clip without it, which is an error otherwise.
    """
    return (default if default is not None and name not in group else group[name][()] for group in _groups(folder))


def read_attributes(folder: Path, name: str) -> Iterator[Any]:
    """Yield the attribute `name` of each clip that is not rejected, without reading any array."""
    return (group.attrs[name] for group in _groups(folder))


def read_rejections(folder: Path) -> dict[str, str]:
    """Return the rejected clips of a folder of shards with their reasons."""
    rejected: dict[str, str] = {}
    for path in sorted(folder.glob("*.h5")):
        with open_shard(path) as file:
            rejected |= {clip: group.attrs["rejected"] for clip, group in file.items() if "rejected" in group.attrs}
    return rejected


def _groups(folder: Path) -> Iterator[h5py.Group]:
    for path in sorted(folder.glob("*.h5")):
        with open_shard(path) as file:
            yield from (group for group in file.values() if "rejected" not in group.attrs)
