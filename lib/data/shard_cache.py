"""Shards of vectors in memory: each is read once in a process, if it fits."""

import logging
from collections.abc import Mapping
from pathlib import Path

from lib.core import shards
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
    path = (data / stream / f"{shard}.h5").absolute()
    try:
        status = path.stat()
    except OSError as error:
        raise shards.describe_unreadable(path, error) from None
    key = path, status.st_mtime_ns, status.st_size
    if key in _records:
        return _records[key]
    if not _limit:
        _limit.append(FRACTION * read_available_memory())
    for old in [other for other in _records if other[0] == path]:
        del _records[old], _sizes[old]
    if status.st_size + sum(_sizes.values()) > _limit[0]:
        logging.getLogger("data").debug("%s does not fit into memory", path)
        return None
    _records[key], _sizes[key] = shards.read_all(path), status.st_size
    return _records[key]


def read_available_memory() -> float:
    """Return the bytes of memory that are available now; 4 GB where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        return 4e9
