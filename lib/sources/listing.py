"""The list of what lies in data/archives/: small enough for git, where the archives themselves are not."""

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
    """A line of the list: size, checksum, and when it was last modified, in UTC; empty in a list of before."""

    bytes: int
    sha256: str
    modified: str = ""


def files(folder: Path) -> Iterator[Path]:
    """Yield all files below `folder`, sorted by folder, links followed, hidden ones and its own README.md left out.

    Raises InputError at a link to nothing; a link to a folder that holds it is not followed.
    """
    for path in walk_files(folder):
        if not path.exists():
            raise InputError(f"{path} is a link to {path.readlink()}, which is not there; mend or remove it")
        if path != folder / "README.md":
            yield path


def read(path: Path) -> dict[str, File]:
    """Return the list's lines by the file's path below data/archives/. Raises InputError if it is no such list."""
    try:
        with path.open(newline="", errors="surrogateescape") as file:
            return {
                row["path"]: File(int(row["bytes"]), row["sha256"], row.get("modified") or "")
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is no list of archives ({error!r}); write it anew: {COMMAND}") from None


def write(folder: Path, path: Path, known: Path) -> int:
    """Write the list of `folder` to `path` and return how many files were read for it.

    `known` keeps size, time and checksum of each file; only files whose size or time changed are read again.
    A file whose bytes are as listed keeps its date there, which tells more than that of a copy.
    """
    try:
        listed = read(path)
    except InputError:  # there is none, or it is what this writes anew
        listed = {}
    before = json.loads(known.read_text()) if known.exists() else {}
    found = {file.relative_to(folder).as_posix(): file for file in files(folder)}
    state = {name: [file.stat().st_size, file.stat().st_mtime_ns] for name, file in found.items()}
    changed = [name for name in found if before.get(name, [])[:2] != state[name]]
    with tqdm(
        total=sum(state[name][0] for name in changed), desc="checksums", unit="B", unit_scale=True, disable=None
    ) as bar:
        try:
            for name in changed:
                before[name] = [*state[name], resume.hash_file(found[name])]
                bar.update(state[name][0])
        finally:  # what is done stays done
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps({name: before[name] for name in found if name in before}))
    with path.open("w", newline="", errors="surrogateescape") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("path", *File._fields))
        for name in sorted(found):
            (size, nanoseconds, checksum), there = before[name], listed.get(name)
            modified = datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat()
            if there and there.modified and there.sha256 == checksum:
                modified = there.modified
            lines.writerow((name, *File(size, checksum, modified)))
    return len(changed)


def missing(folder: Path, listed: dict[str, File], exempt: Iterable[str]) -> list[str]:
    """Return which listed files are not in `folder`, once all that is there is listed, of the size that is listed.

    Raises InputError naming the file and what to do if that is not so; `exempt` need not be listed.
    """
    there = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files(folder)}
    exempt = {*exempt, *(f"{name}.part" for name in exempt)}
    for name, size in there.items():
        if name not in listed and name not in exempt:
            raise InputError(f"{folder}/{name} is not listed in {LISTING}; list it: {COMMAND}")
        if name in listed and size != listed[name].bytes:
            raise InputError(
                f"{folder}/{name} has {size} bytes, {LISTING} says {listed[name].bytes};"
                f" put the listed file there, or list the new one: {COMMAND}"
            )
    return sorted(listed.keys() - there.keys())
