"""Find the clips that a user names: files, folders, patterns, or a list on standard input."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib.core.errors import InputError
from lib.core.folders import walk_files


def find_clips(names: Iterable[str]) -> Iterator[Path]:
    """Yield the clips that match `names`: files, folders, patterns, or - for a list on standard input.

    Raises InputError for a folder without videos and a pattern without matches.
    """
    from lib.core.clips import VIDEO_SUFFIXES

    for name in names:
        if name == "-":
            yield from parse_list(sys.stdin.buffer.read())
        elif os.path.isdir(name):  # noqa: PTH112 (Path.is_dir raises for a name that is too long)
            videos = [path for path in walk_files(Path(name)) if path.suffix.lower() in VIDEO_SUFFIXES]
            if not videos:
                raise InputError(f"{name} contains no video; allowed: files that end in {', '.join(VIDEO_SUFFIXES)}")
            yield from videos
        elif any(letter in name for letter in "*?[") and not os.path.isfile(name):  # noqa: PTH113
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (Path.glob has no absolute patterns)
            if not matches:
                raise InputError(f"no file matches {name!r}; correct the path or the pattern")
            yield from map(Path, matches)
        else:
            yield Path(name)


def parse_list(content: bytes) -> Iterator[Path]:
    """Yield the paths of a list with one path per line, without byte order mark, Windows line ends and quotes."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = content.decode(encoding, errors="surrogateescape").removeprefix("\ufeff")
    for line in text.split("\n"):
        path = line.rstrip("\r")
        if len(path) > 1 and path.strip()[:1] == path.strip()[-1:] == '"':
            path = path.strip()[1:-1]
        if path.strip():
            yield Path(path)


def check_file(clip: Path) -> None:
    """Raise InputError if a clip is not a file, or is empty."""
    if not os.path.isfile(clip):  # noqa: PTH113 (Path.is_file raises for a name that is too long)
        raise InputError(f"{clip} is not a file")
    if not clip.stat().st_size:
        raise InputError("the file is empty")


def to_path(name: str, value: Path | str) -> Path:
    """Return a path. Raises InputError for a value of another type."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(
            f"{name} has the type {type(value).__name__}; allowed: the path of a file, as str or pathlib.Path"
        )
    return Path(value)
