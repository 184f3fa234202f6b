"""Import packages that compile code as they are loaded, and find the files of packages without importing them."""

import fcntl
import importlib
import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any


def package_file(package: str, *parts: str) -> Path | None:
    """Return the path of a file of an installed package, without importing it, or None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent.joinpath(*parts)


@cache
def import_librosa() -> Any:
    """Return the package librosa. The user's processes load it one after another.

    When it is first loaded on a machine, Numba compiles its functions and caches the code in the package's folder. Several
    processes that do so at the same time can damage the cache. Later calls then crash until the cache is removed.
    """
    with lock_file().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # its modules are loaded when they are used; this one loads all that compile
        importlib.import_module("librosa.feature.spectral")
    return importlib.import_module("librosa")


def lock_file() -> Path:
    """Return the file that a process locks while it loads librosa."""
    return Path(tempfile.gettempdir(), f"librosa-{os.getuid()}.lock")
