"""The kinds of fixtures of published networks, and parameters that are stored in separate files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.core.errors import InputError

Arrays = dict[str, np.ndarray]
"""A fixture's arrays by name: `param/...`, `in/...`, `out/...` and `meta/...`."""


@dataclass(frozen=True)
class Layout:
    """A kind of fixture.

    contains: names of arrays by which the kind is recognised; a fixture of it has all of them. rebuild: takes the fixture's
    arrays and its folder, computes the published network's outputs with this project's parts, and returns them by the names
    below `out/`. left_out: why this project has no counterpart, for a kind without `rebuild`.
    """

    name: str
    contains: tuple[str, ...]
    rebuild: Callable[[Arrays, Path], Mapping[str, Any]] | None = None
    left_out: str = ""


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of an .npz file. Raises InputError if it can't be read."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as an .npz: {error}") from None


def find_parameters(folder: Path, wanted: Iterable[str]) -> Arrays:
    """Return the `wanted` parameters from the .npz files of a folder that contain no other arrays, without `param/`.

    Raises InputError if some are missing.
    """
    names = {f"param/{name}" for name in wanted}
    arrays: Arrays = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            if names.issuperset(file.files):
                arrays |= dict(file)
    if missing := sorted(names - arrays.keys()):
        raise InputError(
            f"{folder} contains {len(arrays)} of {len(names)} parameters of a fixture, not {missing[0]}; put the files with"
            " its parameters next to it"
        )
    return {name.removeprefix("param/"): array for name, array in arrays.items()}
