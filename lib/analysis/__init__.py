"""Analyses of a trained model, one per module, which the stage analyse runs. Modules with names `_name` are helpers."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from lib.core.parameters import Section
from lib.core.registry import list_members


class Analysis(Protocol):
    """The interface of a module of this folder: an analysis of the trained model.

    To add one, write lib/analysis/NAME.py with these three names, name its output files in `lib.core.artifacts` (the tuple
    `OUTPUTS["analyse"]` and dvc.yaml list them too), and add the keys of its `Settings` to the section `analyse` of
    params.yaml. The stage analyse finds the module by its file.

    OUTPUTS: the files that `run` writes. It writes all of them in every run: an analysis that is switched off, or that a
    model does not allow, writes tables without rows and HDF5 files without groups, so that figures can say why.

    Settings: a pydantic model with the keys of the section `analyse` that `run` reads. Two analyses may read the same key.
    It is in the analysis' module or, to check params.yaml without PyTorch, an entry of `lib.analysis._settings.SETTINGS`.

    run(context): computes and writes OUTPUTS. `context` (`lib.analysis._context.Context`) has the trained model, the clips
    of each split, their predictions, and the settings. Every random draw takes `context.seed`, so that a repeated run writes
    the same bytes. HDF5 files keep the order in which clips are written (`track_order=True`).
    """

    OUTPUTS: Sequence[Path]
    Settings: type[Section]

    def run(self, context: Any) -> None: ...


def list_names() -> list[str]:
    """Return the names of all analyses."""
    return list_members(Path(__file__).parent)


def load(name: str) -> Analysis:
    """Return the module of an analysis."""
    return cast(Analysis, importlib.import_module(f"{__name__}.{name}"))
