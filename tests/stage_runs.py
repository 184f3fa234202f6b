"""A copy of the project whose stages and tools run in the test's process, without Git and DVC.

DVC, workers and repeated imports take most of the CPU time of a run on a few clips. Tests that need DVC use `Project`.
"""

import io
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path

import joblib
import pytest

from lib.core import parallel
from lib.core.parameters import read_stages
from lib.report import figures
from lib.streams import base, build
from tests.project_copy import Project, copy_files
from tests.run_tool import call_main


def run_stages(first: str = "download", last: str = "figures", draw: Sequence[str] = ()) -> None:
    """Run the stages of dvc.yaml from `first` to `last`, in its order, in this process and the current folder.

    draw: the figures to draw.
    """
    names = [*read_stages()]
    with pytest.MonkeyPatch.context() as patch, joblib.parallel_config(backend="sequential"):
        patch.setenv("SOURCE_DATE_EPOCH", "0")  # the stage figures sets it
        patch.setattr(parallel, "start_executor", lambda *_, **__: ThreadPoolExecutor(1))
        patch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in draw})
        for name in names[names.index(first) : names.index(last) + 1]:
            if name in base.list_names():
                build.build_stream(name)
            else:
                import_module(f"stages.{name}").main()


class Output(io.TextIOWrapper):
    """A standard output that is kept in memory. Unlike io.StringIO it can be reconfigured, as tools.predict does."""

    def __init__(self) -> None:
        self.data = io.BytesIO()
        super().__init__(self.data, encoding="utf-8", write_through=True)

    def getvalue(self) -> str:
        return self.data.getvalue().decode()


class StageRuns(Project):
    """A copy of the project with the small demo's parameters. environment: variables for its stages and tools."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {}
        copy_files(folder, except_for=("dvc.lock", "metrics/", "tests/"))
        self.edit_to_small_demo()

    @classmethod
    def in_copy(cls, project: Project) -> "StageRuns":
        """Return the same copy, whose stages and tools now run in this process."""
        copy = cls.__new__(cls)
        copy.folder, copy.environment = project.folder, project.environment
        return copy

    def run_module(self, name: str, *arguments: str) -> str:
        """Call main() of the tool `name` in the folder and return what it prints. Its exceptions reach the caller."""
        with self._in_folder() as output:
            try:
                call_main(import_module(name), *arguments)
            except SystemExit as end:
                if end.code:
                    raise
        return output.getvalue()

    def run_stages(self, first: str = "download", last: str = "figures", draw: Sequence[str] = ()) -> str:
        """Run the stages of dvc.yaml from `first` to `last` in this process, and return what they print."""
        _forget_files()
        with self._in_folder() as output:
            run_stages(first, last, draw)
        return output.getvalue()

    @contextmanager
    def _in_folder(self) -> Iterator["Output"]:
        """Make the folder the current one, set its environment and collect what is printed."""
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(Output()) as output:
            patch.chdir(self.folder)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield output


def _forget_files() -> None:
    """Clear the caches of streams: they know a file by its relative path, which other copies have too."""
    for name, module in [*sys.modules.items()]:
        if name.startswith("lib.streams"):
            for value in [*vars(module).values()]:
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
