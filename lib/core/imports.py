"""Import packages that are slow to load or compile code then, and find the files of packages without importing them."""

import fcntl
import importlib
import importlib.util
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any


def package_file(package: str, *parts: str) -> Path | None:
    """Return the path of a file of an installed package, without importing it, or None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent.joinpath(*parts)


def import_torchvision() -> Any:
    """Return the package torchvision, without the compiler of PyTorch, which takes a second and 110 MB to load.

    torchvision imports one function of the compiler, which only its operation roi_align calls.
    """
    compiler = "torch._dynamo.utils"
    if compiler not in sys.modules and "torchvision" not in sys.modules:
        stand_in = ModuleType(compiler)
        vars(stand_in)["is_compile_supported"] = _is_compile_supported
        sys.modules[compiler] = stand_in
        try:
            importlib.import_module("torchvision")
        finally:
            del sys.modules[compiler]
    return importlib.import_module("torchvision")


def _is_compile_supported(device_type: str) -> bool:
    supported: bool = importlib.import_module("torch._dynamo.utils").is_compile_supported(device_type)
    return supported


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
