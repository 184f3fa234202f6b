"""Unpack clips and annotations from folders and zip archives (nested or encrypted). Archives are treated as untrusted."""

import filecmp
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

import pyzipper

from lib.core import references
from lib.core.clips import PICTURE_SUFFIXES, PICTURES, POINTS_SUFFIX
from lib.core.errors import InputError
from lib.sources import listing

MAX_DEPTH = 3
"""Largest nesting depth of archives; FIV2 needs two."""
MAX_RATIO = 100
"""Largest ratio of unpacked to packed bytes. Clips hardly compress; annotations compress about five times."""
FOLDERS = 64
"""Number of folders for the clips of an archive that has no sub-folders."""
ANNOTATIONS = "annotations"
"""Folder of all files that are not clips."""

_ANNOTATION_SUFFIXES = (".csv", ".xlsx", ".pkl", ".parquet", ".npz", ".h5", ".hdf5", ".json", ".srt", ".vtt", ".txt")
_CLIP_SUFFIX = ".pt"
_ABOUT = ("readme", "license")
_SMALL = 1 << 20
_LONGEST_NAME = 255  # bytes
_UTF8 = 1 << 11  # bit of a zip entry's flags: the name is UTF-8


def annotation_place(path: PurePath) -> Path | None:
    """Return the destination of a file, or None for a file that the project does not use.

    Files of labels, features or words go to annotations/NAME, images and their landmarks to annotations/pictures/PATH, and
    files of features of a single clip to annotations/PATH, because two folders may have such a file of the same clip.
    """
    if path.suffix.lower() == _CLIP_SUFFIX:
        return Path(ANNOTATIONS, *path.parts)
    if path.suffix.lower() in (*PICTURE_SUFFIXES, POINTS_SUFFIX):
        return Path(ANNOTATIONS, PICTURES, *path.parts)
    wanted = path.suffix.lower() in _ANNOTATION_SUFFIXES and not path.name.lower().startswith(_ABOUT)
    return Path(ANNOTATIONS, path.name) if wanted else None


def _hidden(name: str) -> bool:
    """Return whether an archive's entry is hidden or a companion file of Mac OS (AppleDouble)."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part.strip(".") for part in parts)


def _text(info: pyzipper.ZipInfo) -> str:
    """Return an entry's name.

    Without the UTF-8 flag, zipfile decodes names as code page 437, which few programs still write. Such a name is decoded
    as UTF-8 if possible, else as Latin-1 unless this yields control characters.
    """
    name: str = info.filename
    if info.flag_bits & _UTF8 or name.isascii():
        return name
    written = name.encode("cp437")
    try:
        return written.decode()
    except UnicodeDecodeError:
        latin = written.decode("latin-1")
        return latin if latin.isprintable() else name


def normalise_name(name: str) -> str:
    """Return a clip's name with its suffix in lower case, as labels write it; files on disk may differ."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{dot}{suffix.lower()}" if dot else name


def choose_folder(video: str) -> str:
    """Return the folder (and shard) of a video's clips, for archives without sub-folders."""
    return f"clips_{zlib.crc32(video.encode()) % FOLDERS:02d}"


@dataclass(frozen=True)
class Unpacker:
    """Unpacks a tree of archives and folders below `target`.

    `place` maps a path below the tree (ARCHIVE/PATH for an archive's entry) to the file's destination, or to None if the
    file is not needed. Complete files from an earlier run are not unpacked again. `keys` are tried on each encrypted entry;
    `key_hint` tells the user where to set them.
    """

    target: Path
    keys: Sequence[str]
    key_hint: str
    place: Callable[[PurePath], Path | None]
    _origins: dict[Path, str] = field(default_factory=dict)

    def unpack(self, source: Path) -> Iterator[Path]:
        """Unpack `source` and yield each file's path relative to `target` as soon as the file is complete.

        Raises InputError with archive and entry for an unsafe or damaged entry, and if two different files have the same
        destination. In the end it removes annotations of an earlier run that `source` no longer contains.
        """
        self._origins.clear()
        for path in listing.list_files(source):
            if path.suffix.lower() == ".zip":
                changed = max(path.stat().st_mtime, path.stat().st_ctime)
                yield from self._unpack_zip(path, str(path), path.stem, changed, depth=1)
            elif (place := self.place(path.relative_to(source))) and place.suffix in references.SUFFIXES:
                (self.target / place).unlink(
                    missing_ok=True
                )  # features are read in place; earlier versions copied them
            elif place:
                if self._is_first(place, str(path)):
                    if not self._is_copy(path, place):
                        with path.open("rb") as stream:
                            self._write(stream, place)
                        shutil.copystat(path, self.target / place)
                    yield place
                else:
                    self._check_equal(path, place, str(path))
        for file in sorted((self.target / ANNOTATIONS).rglob("*")):
            if file.is_file() and file.relative_to(self.target) not in self._origins:
                file.unlink()

    def _unpack_zip(self, file: Path, label: str, name: str, changed: float, depth: int) -> Iterator[Path]:
        if depth > MAX_DEPTH:
            raise InputError(f"{label}: archives nested more than {MAX_DEPTH} deep; unpack it by hand if you trust it")
        try:
            archive = pyzipper.AESZipFile(file)
        except (pyzipper.BadZipFile, OSError) as error:
            raise InputError(f"{label} is not a complete zip archive ({error}); download it again") from None
        with archive:
            entries = [info for info in archive.infolist() if not info.is_dir() and not _hidden(info.filename)]
            self._check_entries(entries, label)
            for info in entries:
                inside, entry = PurePosixPath(name) / _text(info), f"{label}/{_text(info)}"
                if inside.suffix.lower() == ".zip":
                    with tempfile.TemporaryDirectory(dir=self.target, prefix=".nested-") as folder:
                        nested = Path(folder, "nested.zip")
                        self._extract(archive, info, nested, label)
                        yield from self._unpack_zip(nested, entry, inside.stem, changed, depth + 1)
                elif place := self.place(inside):
                    partial = self._partial(place)
                    if self._is_first(place, entry):
                        if not self._is_extracted(info, place, changed):
                            self._extract(archive, info, partial, label)
                            partial.rename(self.target / place)
                        yield place
                    else:
                        self._extract(archive, info, partial, label)
                        self._check_equal(partial, place, entry)
                        partial.unlink()

    def _is_first(self, place: Path, origin: str) -> bool:
        first = place not in self._origins
        self._origins.setdefault(place, origin)
        return first

    def _check_equal(self, file: Path, place: Path, origin: str) -> None:
        if not filecmp.cmp(file, self.target / place, shallow=False):
            raise InputError(f"{self._origins[place]} and {origin} are different files for {place}; keep the right one")

    def _check_entries(self, entries: list[pyzipper.ZipInfo], label: str) -> None:
        for info in entries:
            path = PurePosixPath(_text(info).replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", info.filename):
                raise InputError(
                    f"{label}: entry {info.filename!r} points outside the archive; allowed: relative paths. Pack it again"
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{label}: entry {info.filename!r} is a link; allowed: files. Pack the file itself")
            if (length := len(os.fsencode(path.name))) > _LONGEST_NAME:
                raise InputError(
                    f"{label}: entry {info.filename!r} has a name of {length} bytes; file systems allow {_LONGEST_NAME};"
                    " shorten the name in the archive and in the labels"
                )
            if info.file_size > max(_SMALL, MAX_RATIO * info.compress_size):
                raise InputError(
                    f"{label}: entry {info.filename!r} would grow from {info.compress_size} to {info.file_size} bytes;"
                    f" allowed: up to {MAX_RATIO} times. Unpack the archive by hand if you trust it"
                )
        needed, free = sum(info.file_size for info in entries), shutil.disk_usage(self.target).free
        if needed > free:
            raise InputError(
                f"{label} unpacks to {needed} bytes, but {self.target} has only {free} bytes free; free some disk space"
            )

    def _extract(self, archive: pyzipper.AESZipFile, info: pyzipper.ZipInfo, destination: Path, label: str) -> None:
        encrypted = bool(info.flag_bits & 1)
        problem: Exception | None = None
        for key in self.keys if encrypted else [""]:
            try:
                with archive.open(info, pwd=key.encode() or None) as stream, destination.open("wb") as file:
                    shutil.copyfileobj(stream, file, _SMALL)
                return
            except NotImplementedError as error:
                raise InputError(
                    f"{label}: {info.filename} uses a compression method that is not supported ({error}); unpack the archive"
                    " with another program (for example 7-Zip) and replace it by the folder"
                ) from None
            except (RuntimeError, pyzipper.BadZipFile, zlib.error, EOFError) as error:
                problem = error  # a wrong key gives a bad password or, rarely, a bad checksum
        if encrypted:
            raise InputError(f"{label}: {info.filename} is encrypted and none of the keys opens it; {self.key_hint}")
        raise InputError(f"{label}: {info.filename} is damaged ({problem}); download the archive again")

    def _write(self, stream: IO[bytes], place: Path) -> None:
        partial = self._partial(place)
        with partial.open("wb") as file:
            shutil.copyfileobj(stream, file, _SMALL)
        partial.rename(self.target / place)

    def _partial(self, place: Path) -> Path:
        folder = self.target / place.parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder / ".partial"

    def _is_copy(self, path: Path, place: Path) -> bool:
        copy, original = self.target / place, path.stat()
        return copy.exists() and (copy.stat().st_size, copy.stat().st_mtime) == (original.st_size, original.st_mtime)

    def _is_extracted(self, info: pyzipper.ZipInfo, place: Path, changed: float) -> bool:
        """Return whether an entry's file is complete. `changed`: when its archive last changed, in seconds as of files."""
        file = self.target / place
        if not file.exists() or file.stat().st_size != info.file_size:
            return False
        if info.CRC:
            return bool(zlib.crc32(file.read_bytes()) == info.CRC)
        return file.stat().st_mtime > changed  # encrypted entries may come without a checksum
