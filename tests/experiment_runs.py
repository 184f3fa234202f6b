"""Run experiments of tools in the test's process, without DVC. tests/test_pipeline.py runs them with DVC."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import dvc.api
import pytest

from lib.core import parameters
from lib.core.artifacts import MODEL, PARAMETERS, PREDICTIONS, SCORES
from tests.stage_runs import run_stages
from tools import experiments
from tools.parameters import dump, parse_change, put


class ExperimentRuns:
    """Stands in for DVC's experiments: their stages run in the current folder, and `folder` has a copy of their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[str] = []

    @contextmanager
    def replace_dvc(self) -> Iterator[None]:
        """Let tools use these experiments in place of DVC's."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(experiments, "run_dvc", self.run)
            patch.setattr(experiments, "list_names", self.list_names)
            patch.setattr(dvc.api, "open", self.open)
            patch.setattr(dvc.api, "read", self.read)
            patch.setattr(dvc.api, "params_show", self.params_show)
            yield

    def run(self, arguments: list[str]) -> int:
        """Run the stages train and evaluate as `dvc exp run -n NAME -S KEY=VALUE ... evaluate` does; return 0."""
        assert arguments[:2] == ["exp", "run"]
        assert arguments[-1] == experiments.TARGET
        name = arguments[arguments.index("-n") + 1]
        values = parameters.load_all()
        for option, change in pairwise(arguments):
            if option == "-S":
                put(values, *parse_change(change))
        with PARAMETERS.open("w") as file:
            dump(values, file)
        run_stages("train", "evaluate")
        for path in (PARAMETERS, MODEL, PREDICTIONS, SCORES):
            copy = self.folder / name / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        self.runs.append(name)
        return 0

    def list_names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def open(self, path: str, rev: str, mode: str = "r") -> IO[Any]:
        return (self.folder / rev / path).open(mode)

    def read(self, path: str, rev: str) -> str:
        return (self.folder / rev / path).read_text()

    def params_show(self, rev: str | None = None) -> Any:
        return parameters.read_yaml(self.folder / rev / PARAMETERS if rev else PARAMETERS)
