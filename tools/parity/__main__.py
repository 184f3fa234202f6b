"""Compare this project's networks with published ones: equal parameters and inputs must give equal outputs.

A fixture is an .npz file with `param/NAME`, the published network's parameters under its own names, `in/NAME`, `out/NAME`
and `meta/NAME`, a configuration. Its kind is recognised by these names, not by the name of the file. If several kinds fit,
the one with the smallest deviation counts. Prints the largest deviation of each output, relative to its largest magnitude if
that is above 1. The exit status is 1 if a deviation exceeds the tolerance or a file is not recognised.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.core import command, interrupts
from tools.parity._fixture import Arrays, Layout, read_arrays

if TYPE_CHECKING:  # it takes seconds to load, and --help does not need it
    from torch import Tensor

_HERE = Path(__file__).parent
TOLERANCE = 1e-5
LOOSER = {
    ("emonext_small", name): 1e-4
    for name in ("stn_every_4th", "at/downsample_layers.1", "at/stages.0_every_4th", "at/stages.1", "at/stages.3")
}
"""Tolerances of outputs whose published values are less exact in float32: images sampled near their border, and maps that
are computed from these images."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="largest deviation (%(default)s)")
    options = parser.parse_args()
    failed = False
    for path in options.files:
        arrays = read_arrays(path)
        layouts = find_layouts(arrays)
        if not any(name.startswith("out/") for name in arrays):
            print(f"{path.stem}: contains no outputs; its parameters are read with their fixture")
        elif not layouts:
            kinds = ", ".join(layout.name for layout in load_layouts())
            print(f"{path.stem}: not recognised by its arrays; known kinds of fixtures: {kinds}")
            failed = True
        elif layouts[0].left_out:
            print(f"{path.stem}: left out, {layouts[0].left_out}")
        else:
            failed |= print_deviations(path, options.tolerance)
    sys.exit(int(failed))


def print_deviations(path: Path, tolerance: float) -> bool:
    """Print a line for each output of a fixture; return whether a deviation exceeds the tolerance."""
    layout, deviations = compare(path)
    failed = False
    for name, deviation in deviations.items():
        exceeds = not deviation <= max(tolerance, LOOSER.get((layout.name, name), 0))
        failed |= exceeds
        problem = "not computed here, or of another shape" if np.isnan(deviation) else "exceeds the tolerance"
        print(f"{path.stem}: {name} {deviation:.1e}{f' {problem}' if exceeds else ''}", flush=True)
    return failed


def load_layouts() -> list[Layout]:
    """Return all kinds of fixtures: LAYOUTS of each module of this package."""
    with interrupts.loading():
        modules = [importlib.import_module(f"tools.parity.{path.stem}") for path in sorted(_HERE.glob("[!_]*.py"))]
    return [layout for module in modules for layout in module.LAYOUTS]


def find_layouts(arrays: Arrays) -> list[Layout]:
    """Return the kinds of fixtures that contain these arrays."""
    return [layout for layout in load_layouts() if arrays.keys() >= set(layout.contains)]


def compare(path: Path) -> tuple[Layout, dict[str, float]]:
    """Return the kind of a fixture and the largest deviation of each output, NaN if not computed or of another shape.

    Raises ValueError if no kind fits, or if this project has no counterpart of the kind.
    """
    arrays = read_arrays(path)
    results = [(layout, _deviations(layout, arrays, path.parent)) for layout in find_layouts(arrays) if layout.rebuild]
    if not results:
        raise ValueError(f"{path} is not a fixture that can be compared")
    return min(results, key=lambda result: max(np.nan_to_num(list(result[1].values()), nan=np.inf), default=0))


def _deviations(layout: Layout, arrays: Arrays, folder: Path) -> dict[str, float]:
    import torch

    assert layout.rebuild
    with torch.no_grad():
        outputs = layout.rebuild(arrays, folder)
    expected = {name.removeprefix("out/"): array for name, array in arrays.items() if name.startswith("out/")}
    return {name: _largest(array, outputs.get(name)) for name, array in expected.items()}


def _largest(expected: np.ndarray, output: "Tensor | Sequence[float] | np.ndarray | None") -> float:
    computed = np.asarray(output)
    if output is None or expected.shape != computed.shape:
        return float("nan")
    return float(np.abs(computed.astype(float) - expected).max() / max(1, np.abs(expected).max()))


if __name__ == "__main__":
    command.run(main)
