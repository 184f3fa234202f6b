"""Unpack clips and annotations from zips (nested, encrypted) and folders, trusting none of them."""

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

from lib.core.clips import PICTURE_SUFFIXES, PICTURES, POINTS_SUFFIX
from lib.core.errors import InputError
from lib.sources import listing

MAX_DEPTH = 3
"""Archives within archives within archives; FIV2 has two."""
MAX_RATIO = 100
"""Unpacked bytes to packed bytes; clips hardly shrink, annotations some five times."""
FOLDERS = 64
"""Over how many folders clips are spread that do not come in sub-folders of their own."""
ANNOTATIONS = "annotations"
"""The folder of all files that are no clips."""
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".wmv",
    ".asf", ".flv", ".f4v", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv", ".ogm", ".gif", ".mxf", ".nut", ".dv", ".rm",
    ".rmvb", ".wtv", ".gxf", ".ivf", ".obu", ".h264", ".264", ".hevc", ".h265", ".265", ".mjpeg", ".mjpg", ".amv",
)  # fmt: skip

_ANNOTATION_SUFFIXES = (".csv", ".xlsx", ".pkl", ".parquet", ".npz", ".h5", ".json", ".srt", ".vtt", ".txt")
_ABOUT = ("readme", "license")
_SMALL = 1 << 20
_LONGEST_NAME = 255  # bytes
_UTF8 = 1 << 11  # of a zip entry's flags


def annotation_place(path: PurePath) -> Path | None:
    """Where a file of labels, features or words belongs, annotations/NAME, a picture or its points,
    annotations/pictures/PATH; None for any other."""
    if path.suffix.lower() in (*PICTURE_SUFFIXES, POINTS_SUFFIX):
        return Path(ANNOTATIONS, PICTURES, *path.parts)
    wanted = path.suffix.lower() in _ANNOTATION_SUFFIXES and not path.name.lower().startswith(_ABOUT)
    return Path(ANNOTATIONS, path.name) if wanted else None


def _hidden(name: str) -> bool:
    """Whether an archive's entry is what Mac OS puts beside a file (AppleDouble), or hidden."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part.strip(".") for part in parts)


def _text(info: pyzipper.ZipInfo) -> str:
    """Return an entry's name. Without the flag of UTF-8 zipfile reads code page 437, which hardly a program still writes: it
    is UTF-8 if it can be, and Latin-1 if that has no control characters."""
    name: str = info.filename
    if info.flag_bits & _UTF8 or name.isascii():
        return name
    written = name.encode("cp437")
    try:
        return written.decode()
    except UnicodeDecodeError:
        latin = written.decode("latin-1")
        return latin if latin.isprintable() else name


def named(name: str) -> str:
    """Return a clip's name as it is looked up: the suffix in small letters, as labels have it, whatever the disk has."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{dot}{suffix.lower()}" if dot else name


def spread(video: str) -> str:
    """Return the folder, and so the shard, of the clips of a video that come in no sub-folder of their own."""
    return f"clips_{zlib.crc32(video.encode()) % FOLDERS:02d}"


@dataclass(frozen=True)
class Unpacker:
    """Unpacks a tree of archives and folders below `target`, each file to its `place` (None: it is left where it is).

    `place` is given the path below the tree, for an archive's entry ARCHIVE/PATH. What is there already and whole is not
    unpacked again. `keys` are tried on each encrypted entry.
    """

    target: Path
    keys: Sequence[str]
    key_hint: str
    place: Callable[[PurePath], Path | None]
    _origins: dict[Path, str] = field(default_factory=dict)

    def unpack(self, source: Path) -> Iterator[Path]:
        """Yield, relative to `target`, each file as it lies there ready.

        Raises InputError naming archive and entry, or two files of other bytes that have the same place.
        """
        self._origins.clear()
        for path in listing.files(source):
            if path.suffix.lower() == ".zip":
                yield from self._unpack_zip(path, str(path), path.stem, depth=1)
            elif place := self.place(path.relative_to(source)):
                if self._is_first(place, str(path)):
                    if not self._is_copy(path, place):
                        with path.open("rb") as stream:
                            self._write(stream, place)
                        shutil.copystat(path, self.target / place)
                    yield place
                else:
                    self._refuse_other(path, place, str(path))

    def _unpack_zip(self, file: Path, shown: str, name: str, depth: int) -> Iterator[Path]:
        if depth > MAX_DEPTH:
            raise InputError(f"{shown}: archives nested more than {MAX_DEPTH} deep; unpack it by hand if you trust it")
        try:
            archive = pyzipper.AESZipFile(file)
        except (pyzipper.BadZipFile, OSError) as error:
            raise InputError(f"{shown} is no whole zip archive ({error}); fetch it again") from None
        with archive:
            entries = [info for info in archive.infolist() if not info.is_dir() and not _hidden(info.filename)]
            self._refuse_hostile(entries, shown)
            for info in entries:
                inside, entry = PurePosixPath(name) / _text(info), f"{shown}/{_text(info)}"
                if inside.suffix.lower() == ".zip":
                    with tempfile.TemporaryDirectory(dir=self.target, prefix=".nested-") as folder:
                        nested = Path(folder, "nested.zip")
                        self._extract(archive, info, nested, shown)
                        yield from self._unpack_zip(nested, entry, inside.stem, depth + 1)
                elif place := self.place(inside):
                    partial = self._partial(place)
                    if self._is_first(place, entry):
                        if not self._is_extracted(info, place):
                            self._extract(archive, info, partial, shown)
                            partial.rename(self.target / place)
                        yield place
                    else:
                        self._extract(archive, info, partial, shown)
                        self._refuse_other(partial, place, entry)
                        partial.unlink()

    def _is_first(self, place: Path, origin: str) -> bool:
        first = place not in self._origins
        self._origins.setdefault(place, origin)
        return first

    def _refuse_other(self, file: Path, place: Path, origin: str) -> None:
        if not filecmp.cmp(file, self.target / place, shallow=False):
            raise InputError(
                f"{self._origins[place]} and {origin} both become {place}, and their bytes differ; keep the right one"
            )

    def _refuse_hostile(self, entries: list[pyzipper.ZipInfo], shown: str) -> None:
        for info in entries:
            path = PurePosixPath(_text(info).replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", info.filename):
                raise InputError(f"{shown}: entry {info.filename!r} points outside the archive; refused")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{shown}: entry {info.filename!r} is a link; refused")
            if (length := len(os.fsencode(path.name))) > _LONGEST_NAME:
                raise InputError(
                    f"{shown}: entry {info.filename!r} has a name of {length} bytes; file systems allow {_LONGEST_NAME}:"
                    " shorten it there and in the labels"
                )
            if info.file_size > max(_SMALL, MAX_RATIO * info.compress_size):
                raise InputError(
                    f"{shown}: entry {info.filename!r} would grow from {info.compress_size} to {info.file_size} bytes;"
                    f" more than {MAX_RATIO} times is refused"
                )
        needed, free = sum(info.file_size for info in entries), shutil.disk_usage(self.target).free
        if needed > free:
            raise InputError(f"{shown} unpacks to {needed} bytes, {self.target} has {free} free; make room")

    def _extract(self, archive: pyzipper.AESZipFile, info: pyzipper.ZipInfo, destination: Path, shown: str) -> None:
        encrypted = bool(info.flag_bits & 1)
        problem: Exception | None = None
        for key in self.keys if encrypted else [""]:
            try:
                with archive.open(info, pwd=key.encode() or None) as stream, destination.open("wb") as file:
                    shutil.copyfileobj(stream, file, _SMALL)
                return
            except NotImplementedError as error:
                raise InputError(
                    f"{shown}: {info.filename} is packed in a way that can't be read here ({error}); unpack it with another"
                    " program, as 7-Zip, and put the folder in the archive's place"
                ) from None
            except (RuntimeError, pyzipper.BadZipFile, zlib.error, EOFError) as error:
                problem = error  # with a wrong key: bad password, or rarely a bad checksum
        if encrypted:
            raise InputError(f"{shown}: {info.filename} is encrypted and no given key opens it; {self.key_hint}")
        raise InputError(f"{shown}: {info.filename} is damaged ({problem}); fetch the archive again")

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

    def _is_extracted(self, info: pyzipper.ZipInfo, place: Path) -> bool:
        file = self.target / place
        if not file.exists() or file.stat().st_size != info.file_size:
            return False
        return info.CRC in (0, zlib.crc32(file.read_bytes()))  # AES entries may come without a checksum
