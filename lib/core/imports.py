"""Import what compiles code as it is loaded, and keeps it for other processes."""

import fcntl
import importlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any


@cache
def librosa() -> Any:
    """Return the package librosa, loaded by one of the user's processes that ask here at a time.

    Loaded for the first time on a machine its modules compile functions by Numba, which keeps the code beside them; several
    processes at once mix up what is kept, and who calls such a function later crashes, until it is removed.
    """
    with lock().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # its modules are loaded when they are used; this one loads all that compile
        importlib.import_module("librosa.feature.spectral")
    return importlib.import_module("librosa")


def lock() -> Path:
    """Return the file that is locked meanwhile."""
    return Path(tempfile.gettempdir(), f"librosa-{os.getuid()}.lock")
