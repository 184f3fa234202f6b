"""Hold this project's networks against published ones: their outputs, with a published network's parameters and inputs,
beside its own.

A fixture is an .npz with `param/NAME`, the published network's parameters under its own names, `in/NAME`, `out/NAME` and
`meta/NAME`, a configuration; the beginning of the file's name tells its family, a module of tools/parity. Prints the largest
deviation of each output, in parts of its largest magnitude if that is above 1, and ends with 1 if one exceeds the tolerance.
"""

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np

from lib.core import command
from lib.core.errors import InputError

_HERE = Path(__file__).parent
TOLERANCE = 1e-5
LOOSER = {
    ("emonext_small", name): 1e-4
    for name in ("stn_every_4th", "at/downsample_layers.1", "at/stages.0_every_4th", "at/stages.1", "at/stages.3")
}
"""Outputs whose reference itself is no more exact than so in float32: pictures sampled at their border, and their maps."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="largest deviation (%(default)s)")
    options = parser.parse_args()
    worse = False
    for path in options.files:
        if reason := left_out().get(path.stem):
            print(f"{path.stem}: left out, {reason}")
            continue
        found = deviations(path)
        if found is None:
            print(f"{path.stem}: no family of fixtures known here; known are {', '.join(sorted(families()))}")
            worse = True
        elif not found:
            print(f"{path.stem}: read with the fixture that it belongs to")
        for name, deviation in (found or {}).items():
            exceeds = not deviation <= max(options.tolerance, LOOSER.get((path.stem, name), 0))
            worse |= exceeds
            wrong = "not computed here, or of another shape" if np.isnan(deviation) else "exceeds the tolerance"
            print(f"{path.stem}: {name} {deviation:.1e}{f' {wrong}' if exceeds else ''}", flush=True)
    sys.exit(worse)


def families() -> dict[str, str]:
    """Return for each beginning of a fixture's name the module that rebuilds its network."""
    modules = (f"tools.parity.{path.stem}" for path in _HERE.glob("[!_]*.py"))
    return {prefix: name for name in modules for prefix in importlib.import_module(name).PREFIXES}


def left_out() -> dict[str, str]:
    """Return by the fixture's name why what it holds has no counterpart in this project: LEFT_OUT of a family's module."""
    modules = [importlib.import_module(name) for name in sorted(set(families().values()))]
    return {stem: reason for module in modules for stem, reason in getattr(module, "LEFT_OUT", {}).items()}


def deviations(path: Path) -> dict[str, float] | None:
    """Return the largest deviation of each output of a fixture, NaN where it is not computed or of another shape; none for
    a file that only holds parameters of another; None if no family is known.

    A family's module has PREFIXES, and outputs(path, arrays), which returns arrays by the names of the fixture's `out/`.
    Raises InputError if the file can't be read.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as an .npz: {error}") from None
    expected = {name.removeprefix("out/"): array for name, array in arrays.items() if name.startswith("out/")}
    known = families()
    matching = [prefix for prefix in known if path.stem.startswith(prefix)]
    if not matching:
        return None
    if not expected:
        return {}
    computed = importlib.import_module(known[max(matching, key=len)]).outputs(path, arrays)
    return {name: _largest(array, computed.get(name)) for name, array in expected.items()}


def _largest(expected: np.ndarray, given: np.ndarray | None) -> float:
    computed = np.asarray(given)
    if given is None or expected.shape != computed.shape:
        return float("nan")
    return float(np.abs(computed.astype(float) - expected).max() / max(1, np.abs(expected).max()))


if __name__ == "__main__":
    command.run(main)
