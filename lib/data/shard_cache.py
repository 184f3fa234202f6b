"""Shards of vectors in memory: each is read once in a process, if it fits."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lib.core import shards
from lib.core.folders import describe_bytes
from lib.core.references import Joined
from lib.core.shards import Record
from lib.streams import base

FRACTION = 0.4
"""Largest fraction of the available memory that cached shards use."""

_Key = tuple[Path, int, int]
_records: dict[_Key, Mapping[str, Record]] = {}
_sizes: dict[_Key, int] = {}
_limit: list[float] = []


def read_cached(data: Path, stream: str, shard: str) -> Mapping[str, Record] | None:
    """Return the records of a shard by clip, with arrays in memory; None if they don't fit or are no vectors.

    Arrays of vectors are stored without compression, so the size of a file is about the size in memory. A file that was
    written again is read again.
    """
    if base.load(stream).kind != "vectors":
        return None
    key = path, _, size = _find_version(data, stream, shard)
    if key in _records:
        return _records[key]
    if not _limit:
        _limit.append(FRACTION * read_available_memory())
    for old in [other for other in _records if other[0] == path]:
        del _records[old], _sizes[old]
    if size + sum(_sizes.values()) > _limit[0]:
        logging.getLogger("data").debug("%s does not fit into memory", path)
        return None
    _records[key], _sizes[key] = shards.read_all(path), size
    return _records[key]


def read_clips(data: Path, stream: str, shard: str, clips: Iterable[str]) -> Iterator[Record]:
    """Yield the records of a shard's clips. Arrays of shards that are not cached are read on access."""
    if (cached := read_cached(data, stream, shard)) is not None:
        yield from map(cached.__getitem__, clips)
        return
    with shards.open_shard(data / stream / f"{shard}.h5") as file:
        yield from (shards.read_group(file[clip]) for clip in clips)


def read_uncached(data: Path, stream: str, shard: str) -> Mapping[str, Record]:
    """Return the records of a shard by clip, from memory if they are there. A shard that is read does not stay in memory."""
    key = _find_version(data, stream, shard)
    return _records[key] if key in _records else shards.read_all(key[0])


def _find_version(data: Path, stream: str, shard: str) -> _Key:
    """Return a shard's file, with its time of change and its size. Raises InputError if it is missing."""
    path = (data / stream / f"{shard}.h5").absolute()
    try:
        status = path.stat()
    except OSError as error:
        raise shards.describe_unreadable(path, error) from None
    return path, status.st_mtime_ns, status.st_size


def describe_memory(data: Path, streams: Iterable[str], shard_of_clip: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each stream of vectors: its clips, its size on disk, and whether all of it fits into memory.

    shard_of_clip: name of the shard of each clip that is read. Vectors that are read in place are kept in memory by the
    system, which drops them when programs need the space.
    """
    by_shard: dict[str, list[str]] = {}
    for clip, shard in shard_of_clip.items():
        by_shard.setdefault(shard, []).append(clip)
    for stream in streams:
        if base.load(stream).kind != "vectors":
            continue
        stored = cached_bytes = in_place = 0
        for shard, clips in by_shard.items():
            size = (data / stream / f"{shard}.h5").stat().st_size
            records = read_cached(data, stream, shard)
            stored, cached_bytes = stored + size, cached_bytes + (size if records is not None else 0)
            in_place += sum(map(_count_referenced, map(records.__getitem__, clips) if records is not None else ()))
        text = f"{stream}: {len(shard_of_clip)} clips; {describe_bytes(cached_bytes)} of {describe_bytes(stored)} of shards"
        text += " are in memory"
        text += f", and {describe_bytes(in_place)} are read in place" if in_place else ""
        rest, available = in_place + stored - cached_bytes, read_available_memory()
        if rest <= available:
            yield f"{text}. {describe_bytes(available)} are free, so the disk is read once"
        else:
            yield (
                f"{text}. {describe_bytes(available)} are free, so each epoch reads {describe_bytes(rest - available)} or"
                " more from the disk; store numbers of 16 bits, or fewer steps per clip"
            )


def _count_referenced(record: Record) -> int:
    return sum(array.referenced_bytes for array in record.arrays.values() if isinstance(array, Joined))


def read_available_memory() -> float:
    """Return the bytes of memory that are available now; 4 GB where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        return 4e9
