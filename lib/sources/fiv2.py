"""Read FIV2's annotation pickles without letting a pickle run code, and check their scores."""

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.core.targets import LATTICE, SCORES

SHA256 = {
    "annotation_training.pkl": "cdf3aaccfb8ed217e0f34a40b0560fd5367991c4feba63d94031188da99fb2b6",
    "annotation_validation.pkl": "4393caee5468ae44904598359d84e73ee0cbc9431d9c70465948725084527d77",
    "annotation_test.pkl": "1d758f806581497ee17fdb1bc00c89d37b3321ffd588c3116fad4f8f479f3f4b",
}
"""Checksums of the three annotation files as ChaLearn distributes them."""

_GLOBALS = {
    ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,  # type: ignore[attr-defined]
    ("numpy", "dtype"): np.dtype,
}
_TOLERANCE = 1e-6  # of a score times its lattice number, from a whole number


class _ScoresUnpickler(pickle.Unpickler):
    """Admits numpy scalars and nothing else that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise InputError(f"the pickle asks for {module}.{name}; only numpy scalars are allowed, so it was not read")
        return _GLOBALS[module, name]


def read(path: Path) -> pd.DataFrame:
    """Return the scores of an annotation pickle: a row a clip (the index), a column for each of SCORES.

    Raises InputError if the file asks for code, is no such pickle, or lacks a trait; a score that a clip lacks is NaN.
    """
    try:
        content = _ScoresUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path} is no readable pickle ({type(error).__name__}: {error}); copy it again") from error
    if not isinstance(content, dict) or not all(isinstance(scores, dict) for scores in content.values()):
        raise InputError(f"{path} holds no {{trait: {{clip: score}}}} dictionary")
    if missing := [score for score in SCORES if score not in content]:
        raise InputError(f"{path} lacks {', '.join(missing)}; it has {', '.join(map(str, content))}")
    return pd.DataFrame({score: pd.Series(content[score], dtype=float) for score in SCORES}).sort_index()


def problem(scores: dict[str, float]) -> str:
    """Say what is wrong with a clip's scores, or return an empty string."""
    for name in SCORES:
        value = scores[name]
        if math.isnan(value):
            return f"{name} has no score"
        if not 0 <= value <= 1:
            return f"{name} is {value}, outside [0, 1]"
        on_lattice = value * LATTICE[name]
        if abs(on_lattice - round(on_lattice)) > _TOLERANCE:
            return f"{name} is {value}, no multiple of 1/{LATTICE[name]}: corrupt, or another trait's score"
    return ""
