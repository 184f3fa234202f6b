"""Unpack clips and annotations from zips (nested, encrypted) and folders, trusting none of them."""

import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

import pyzipper

from lib.core.errors import InputError

MAX_DEPTH = 3
"""Archives within archives within archives; FIV2 has two."""
MAX_RATIO = 100
"""Unpacked bytes to packed bytes; clips hardly shrink, annotations some five times."""
FLAT_SUBSETS = 64
"""Into how many subsets clips are spread that do not come in FIV2's sub-folders of 80."""

_SUBSET = re.compile(r"(training|validation|test)80_\d+")
_ANNOTATION = re.compile(r"(annotation|transcription)_\w+\.pkl|[\w-]+\.csv")
_SMALL = 1 << 20


@dataclass(frozen=True)
class Unpacker:
    """Unpacks a tree of archives and folders to `target`/SUBSET/CLIP and `target`/annotations/FILE.

    What is there already and whole is not unpacked again. `keys` are tried on each encrypted entry.
    """

    target: Path
    keys: Sequence[str]
    key_hint: str

    def unpack(self, source: Path) -> Iterator[Path]:
        """Yield, relative to `target`, each file as it lies there ready. Raises InputError naming archive and entry."""
        for path in sorted(_files(source)):
            if path.suffix.lower() == ".zip":
                yield from self._unpack_zip(path, str(path), path.stem, depth=1)
            elif place := _place(path.relative_to(source.parent)):
                if not self._is_copy(path, place):
                    with path.open("rb") as stream:
                        self._write(stream, place)
                    shutil.copystat(path, self.target / place)
                yield place

    def _unpack_zip(self, file: Path, shown: str, name: str, depth: int) -> Iterator[Path]:
        if depth > MAX_DEPTH:
            raise InputError(f"{shown}: archives nested more than {MAX_DEPTH} deep; unpack it by hand if you trust it")
        try:
            archive = pyzipper.AESZipFile(file)
        except (pyzipper.BadZipFile, OSError) as error:
            raise InputError(f"{shown} is no whole zip archive ({error}); fetch it again") from None
        with archive:
            entries = [info for info in archive.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]
            self._refuse_hostile(entries, shown)
            for info in entries:
                inside = PurePosixPath(name) / info.filename
                if inside.suffix.lower() == ".zip":
                    with tempfile.TemporaryDirectory(dir=self.target, prefix=".nested-") as folder:
                        nested = Path(folder, "nested.zip")
                        self._extract(archive, info, nested, shown)
                        yield from self._unpack_zip(nested, f"{shown}/{info.filename}", inside.stem, depth + 1)
                elif place := _place(inside):
                    if not self._is_extracted(info, place):
                        partial = self._partial(place)
                        self._extract(archive, info, partial, shown)
                        partial.rename(self.target / place)
                    yield place

    def _refuse_hostile(self, entries: list[pyzipper.ZipInfo], shown: str) -> None:
        for info in entries:
            path = PurePosixPath(info.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", info.filename):
                raise InputError(f"{shown}: entry {info.filename!r} points outside the archive; refused")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{shown}: entry {info.filename!r} is a link; refused")
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
            except (RuntimeError, pyzipper.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
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


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names)


def _place(path: PurePath) -> Path | None:
    """Where a file belongs: SUBSET/CLIP for clips, annotations/FILE for annotations, None for anything else."""
    if path.suffix.lower() == ".mp4":
        subsets = [part for part in path.parts if _SUBSET.fullmatch(part)]
        flat = f"clips_{zlib.crc32(path.name.rsplit('.', 2)[0].encode()) % FLAT_SUBSETS:02d}"
        return Path(subsets[-1] if subsets else flat, path.name)
    return Path("annotations", path.name) if _ANNOTATION.fullmatch(path.name) else None
