"""The list of the files in data/archives/. Git tracks this list instead of the archives, which are too large."""

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from lib.core import resume
from lib.core.artifacts import ARCHIVE_LIST
from lib.core.errors import InputError
from lib.core.folders import walk_files

LISTING = ARCHIVE_LIST
COMMAND = "python -m tools.archives"


class File(NamedTuple):
    """A line of the list: size, checksum, and the time of the last change in UTC ('' in lists of older versions)."""

    bytes: int
    sha256: str
    modified: str = ""


def files(folder: Path) -> Iterator[Path]:
    """Yield all files below `folder`, sorted by folder, without hidden files and the folder's README.md.

    Links are followed, except links to a parent folder. Raises InputError for a broken link.
    """
    for path in walk_files(folder):
        if not path.exists():
            raise InputError(f"{path} is a link to {path.readlink()}, which does not exist; correct or remove the link")
        if path != folder / "README.md":
            yield path


def read(path: Path) -> dict[str, File]:
    """Return the list's lines by path below data/archives/. Raises InputError if the file is not such a list."""
    try:
        with path.open(newline="", errors="surrogateescape") as file:
            return {
                row["path"]: File(int(row["bytes"]), row["sha256"], row.get("modified") or "")
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is not a list of archives ({error!r}); write it again: {COMMAND}") from None


def write(folder: Path, path: Path, cache: Path) -> int:
    """Write the list of `folder` to `path` and return the number of files that had to be read.

    `cache` stores size, time and checksum of each file, so that only changed files are read again. A file with the listed
    checksum keeps its listed date, because a copy's own date says little.
    """
    try:
        listed = read(path)
    except InputError:  # a missing or damaged list is replaced below
        listed = {}
    hashed = json.loads(cache.read_text()) if cache.exists() else {}
    paths = {file.relative_to(folder).as_posix(): file for file in files(folder)}
    sizes_and_times = {name: [file.stat().st_size, file.stat().st_mtime_ns] for name, file in paths.items()}
    changed = [name for name in paths if hashed.get(name, [])[:2] != sizes_and_times[name]]
    with tqdm(
        total=sum(sizes_and_times[name][0] for name in changed),
        desc="checksums",
        unit="B",
        unit_scale=True,
        disable=None,
    ) as bar:
        try:
            for name in changed:
                hashed[name] = [*sizes_and_times[name], resume.hash_file(paths[name])]
                bar.update(sizes_and_times[name][0])
        finally:  # an interrupted run keeps its checksums
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_text(json.dumps({name: hashed[name] for name in paths if name in hashed}))
    with path.open("w", newline="", errors="surrogateescape") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("path", *File._fields))
        for name in sorted(paths):
            (size, nanoseconds, checksum), entry = hashed[name], listed.get(name)
            modified = datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat()
            if entry and entry.modified and entry.sha256 == checksum:
                modified = entry.modified
            lines.writerow((name, *File(size, checksum, modified)))
    return len(changed)


def missing(folder: Path, listed: dict[str, File], exempt: Iterable[str]) -> list[str]:
    """Return the listed files that are missing in `folder`, after checking the files that are present.

    Raises InputError if a file is not listed or has another size than listed; files in `exempt` need not be listed.
    """
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files(folder)}
    exempt = {*exempt, *(f"{name}.part" for name in exempt)}
    for name, size in sizes.items():
        if name not in listed and name not in exempt:
            raise InputError(f"{folder}/{name} is not listed in {LISTING}; add it: {COMMAND}")
        if name in listed and size != listed[name].bytes:
            raise InputError(
                f"{folder}/{name} has {size} bytes, but {LISTING} lists {listed[name].bytes};"
                f" put the listed file there, or list the new one: {COMMAND}"
            )
    return sorted(listed.keys() - sizes.keys())
