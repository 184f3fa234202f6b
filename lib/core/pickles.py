"""Read pickles from untrusted sources: plain objects and numpy scalars only, and no code is run."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from lib.core.errors import InputError


def _bytes(text: str, encoding: str) -> bytes:
    """Return the bytes of a number, as old pickle protocols write them."""
    return text.encode("latin-1")


_GLOBALS: dict[tuple[str, str], Any] = {
    (f"numpy.{core}.multiarray", "scalar"): np._core.multiarray.scalar  # type: ignore[attr-defined]
    for core in ("core", "_core")  # numpy's before and from 2.0 on
} | {("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _bytes}


class _Unpickler(pickle.Unpickler):
    """An unpickler that allows numpy scalars and rejects everything else that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise InputError(
                f"the pickle asks for {module}.{name}; allowed: numpy scalars. It was not read; get the original file"
            )
        return _GLOBALS[module, name]


def load_pickle(path: Path) -> Any:
    """Return the contents of a pickle, also of Python 2. Raises InputError if it is not a pickle or would run code."""
    try:
        return _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path} is not a readable pickle ({type(error).__name__}: {error}); copy it again") from error


def name_keys(path: Path, values: dict[Any, Any]) -> dict[str, Any]:
    """Return a dictionary of a pickle with its keys as text. Raises InputError if two keys have the same text."""
    names = {
        key.decode(errors="replace") if isinstance(key, bytes) else str(key): value for key, value in values.items()
    }
    if len(names) < len(values):
        raise InputError(f"{path} has two keys with the same text, one of them bytes or a number; keep one")
    return names
