"""Work folders: an interrupted or changed stage keeps its finished files there, and the next run reuses the valid ones."""

import ast
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lib.core.errors import InputError

ROOT = Path("data/.work")
"""A folder a stage; removing any of it costs time and nothing else."""

CHECKSUMS = "checksums.jsonl"
"""File in ROOT with the checksums of the files in data/archives/, and of other files that are read in place."""

_PROJECT = Path(__file__).parents[__name__.count(".")]
"""The folder that contains the first package of module names: the repository, or the place of an installed package."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(modules: Iterable[str], *inputs: Any) -> str:
    """Return 16 hex digits, the hash of `inputs` (JSON-able) and of the code of `modules` and what they import here.

    The hash of code is that of its syntax tree without docstrings: comments and layout do not change it.
    """
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for name in sorted(find_imported_modules(modules)):
        digest.update(f"{name} {_parse_module(name).code}".encode())
    return digest.hexdigest()[:16]


def find_imported_modules(modules: Iterable[str]) -> set[str]:
    """Return the names of `modules` and of all modules and packages of this project that they import, directly or not."""
    imported: set[str] = set()
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in imported or not _path(name).exists():
            continue
        imported.add(name)
        todo += [name.rpartition(".")[0]]  # importing a module runs its packages
        todo += _parse_module(name).imports
    return imported


class _Module(NamedTuple):
    """A module of this project: the hash of its syntax tree without docstrings, and the names that it imports."""

    code: str
    imports: list[str]


def _parse_module(name: str) -> _Module:
    """Parse a module, once unless it changes: a process needs most modules for several fingerprints."""
    path = _path(name)
    status = path.stat()
    return _parse_file(path, status.st_mtime_ns, status.st_size)


@cache
def _parse_file(path: Path, changed: int, size: int) -> _Module:
    tree, imports = ast.parse(path.read_text()), list[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return _Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports)


def _path(module: str) -> Path:
    """Return the path of a module or package of this project, which need not exist."""
    place = _PROJECT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_name(place.name + ".py")


def hash_file(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_unchanged(path: Path, checksums: Path | None = None) -> str:
    """Return a file's sha256 in hex. The file is read only if `is_hashed` is false.

    checksums: a file with a line of JSON for each checksum, data/.work/checksums.jsonl by default.
    """
    checksums = checksums or ROOT / CHECKSUMS
    entries, status, place = _load_checksums(checksums.absolute()), path.stat(), str(path.resolve())
    if not is_hashed(path, checksums):
        entries[place] = [status.st_size, status.st_mtime_ns, hash_file(path)]
        if checksums.parent.is_dir():
            with checksums.open("a") as file:
                file.write(json.dumps([place, *entries[place]]) + "\n")
    return str(entries[place][2])


def is_hashed(path: Path, checksums: Path) -> bool:
    """Return whether the checksum of a file with the same size and time of change is known."""
    entries, status = _load_checksums(checksums.absolute()), path.stat()
    return entries.get(str(path.resolve()), [])[:2] == [status.st_size, status.st_mtime_ns]


@cache
def _load_checksums(path: Path) -> dict[str, list[Any]]:
    """Return size, time and checksum of each file. The last of several lines counts; an incomplete line does not."""
    entries: dict[str, list[Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            place, *entry = json.loads(line)
        except ValueError:
            continue
        entries[place] = entry
    return entries


def finish_file(partial: Path, path: Path) -> None:
    """Rename a complete file, so that not even a power cut leaves an incomplete file under the final name."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def publish(files: Iterable[tuple[Path, Path]], out: Path) -> None:
    """Create the folder `out` in one step, of hard links if possible. files: pairs (work file, path below `out`)."""
    partial = ROOT / f"{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file, place in files:
        (partial / place).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, partial / place)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, partial / place)
    shutil.rmtree(out, ignore_errors=True)  # not before: files of it may be published again
    try:
        partial.rename(out)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(partial, out)  # ROOT is a link to another file system


def checksum_folder(folder: Path) -> Path:
    """Return the folder with the checksums of a work folder's files."""
    return folder.with_name(f"{folder.name}.sums")


def write_checksum(path: Path, partial: Path) -> None:
    """Write the checksum of `partial`, which will be renamed to `path`."""
    checksum_folder(path.parent).mkdir(exist_ok=True)
    (checksum_folder(path.parent) / path.name).write_text(hash_file(partial))


def is_complete(path: Path) -> bool:
    """Return whether a cached file exists and has its checksum."""
    noted = checksum_folder(path.parent) / path.name
    return path.exists() and noted.exists() and hash_file(path) == noted.read_text()


def remove_from_cache(path: Path) -> None:
    """Remove the object of the file `path` from DVC's cache if it is damaged, because DVC would not notice."""
    from dvc.exceptions import DvcException  # they take a second
    from dvc.repo import Repo

    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    try:
        cache = Path(Repo().cache.local.path)
    except (DvcException, AttributeError):  # not in a project
        return
    cached = cache / md5[:2] / md5[2:]
    if cached.exists() and hash_file(cached) != hash_file(path):
        cached.unlink()


@contextmanager
def lock_stage(stage: str) -> Iterator[None]:
    """Raise InputError if another process runs the same stage in the same folder."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / f"{stage}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{stage} is already running in this folder; wait for it, or end it") from None
        except OSError:  # a file system without locks
            pass
        yield
