"""The list of the files in data/archives/. Git tracks this list instead of the archives, which are too large."""

import csv
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


def list_files(folder: Path) -> Iterator[Path]:
    """Yield all files below `folder`, sorted by folder, without hidden files and the folder's README.md.

    Links are followed, except links to a parent folder. Raises InputError for a broken link.
    """
    for path in walk_files(folder):
        if not path.exists():
            raise InputError(f"{path} is a link to {path.readlink()}, which does not exist; correct or remove the link")
        if path != folder / "README.md":
            yield path


def read_list(path: Path) -> dict[str, File]:
    """Return the list's lines by path below data/archives/. Raises InputError if the file is not such a list."""
    try:
        with path.open(newline="", errors="surrogateescape") as file:
            return {
                row["path"]: File(int(row["bytes"]), row["sha256"], row.get("modified") or "")
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is not a list of archives ({error!r}); write it again: {COMMAND}") from None


def write_list(folder: Path, path: Path, checksums: Path) -> int:
    """Write the list of `folder` to `path` and return the number of files that had to be read.

    `checksums` stores size, time and checksum of each file, so that only changed files are read again, even after an
    interruption. A file with the listed checksum keeps its listed date, because a copy's own date says little.
    """
    try:
        listed = read_list(path)
    except InputError:  # a missing or damaged list is replaced below
        listed = {}
    checksums.parent.mkdir(parents=True, exist_ok=True)
    paths = {file.relative_to(folder).as_posix(): file for file in list_files(folder)}
    changed = [file for file in paths.values() if not resume.is_hashed(file, checksums)]
    total = sum(file.stat().st_size for file in changed)
    with tqdm(total=total, desc="checksums", unit="B", unit_scale=True, disable=None) as bar:
        for file in changed:
            resume.hash_unchanged(file, checksums)
            bar.update(file.stat().st_size)
    with path.open("w", newline="", errors="surrogateescape") as list_file:
        lines = csv.writer(list_file, lineterminator="\n")
        lines.writerow(("path", *File._fields))
        for name in sorted(paths):
            status, checksum = paths[name].stat(), resume.hash_unchanged(paths[name], checksums)
            modified, entry = datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC).isoformat(), listed.get(name)
            if entry and entry.modified and entry.sha256 == checksum:
                modified = entry.modified
            lines.writerow((name, *File(status.st_size, checksum, modified)))
    return len(changed)


def find_missing(folder: Path, listed: dict[str, File], exempt: Iterable[str]) -> list[str]:
    """Return the listed files that are missing in `folder`, after checking the files that are present.

    Raises InputError if a file is not listed or has another size than listed; files in `exempt` need not be listed.
    """
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in list_files(folder)}
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
