"""Copies of the project, in which tests run its stages and tools."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from tests.compiled_flow import share_compiled_flow
from tests.conftest import ROOT
from tests.rendered_corpus import share_corpus

WITHOUT_VIDEO = [
    "download.videos=false", "frames.enabled=false", "faces.enabled=false", "flow.enabled=false", "audio.enabled=false",
    "descriptors.enabled=false",
]  # fmt: skip
"""Parameters of a project whose clips have no video files."""

SMALLER = {
    "clips: 200": "clips: 20", "seconds: 3.0": "seconds: 2.0", "seconds: 4.0": "seconds: 2.0", "shared: 0.0": "shared: 0.84",
    "seed: 8": "seed: 0", "use: [faces, flow, audio]": "use: [faces, flow]", "epochs: 15": "epochs: 2",
    "importance_clips: 6": "importance_clips: 2", "robustness_clips: 16": "robustness_clips: 2",
    "control_repeats: 3": "control_repeats: 2", "resamples: 2000": "resamples: 200",
    "GPUs\n  workers: 0": "GPUs\n  workers: 1",  # tests run in parallel already, and each worker takes seconds to start
}  # fmt: skip
"""Changes of params.yaml that make the demo small, with two encoders and clips of videos that are in training too."""

ANALYSES = {"attention_clips": 4, "control_clips": 20, "importance_clips": 2, "robustness_clips": 2, "map_clips": 500}
"""Keys of `analyse` that disable an analysis if they are 0, with their values in a copy of the project."""


def copy_files(folder: Path, *, except_for: tuple[str, ...] = ()) -> None:
    """Copy the project's files, also those not committed yet, without those whose paths begin with `except_for`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
        if (ROOT / name).is_file() and not name.startswith(except_for):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def run_python(folder: Path, *arguments: str) -> str:
    """Run this Python with these arguments in a folder, assert that it succeeds and return what it prints."""
    command = [sys.executable, *arguments]
    result = subprocess.run(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def run_tests(folder: Path, *arguments: str) -> None:
    """Assert that tests of a copy of the project pass. They run in one process and leave no cache."""
    run_python(folder, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *arguments)


def stages_run(output: str) -> list[str]:
    """Return the names of the stages that DVC ran, by its output."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


class Project:
    """A copy of the project with a small demo, as a Git repository with one commit.

    compiled_flow: whether the copy gets the compiled optical flow, without which its stage `flow` compiles for 30 s.
    rendered: whether the copy gets the demo's rendered clips, without which its stage `download` renders for 10 s.
    """

    def __init__(self, folder: Path, *, compiled_flow: bool = True, rendered: bool = False) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "",  # each process would compile the copy's modules again
            **{f"GIT_{role}_{field}": "a@b" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")},
        }
        copy_files(folder, except_for=("dvc.lock", "metrics/"))
        if compiled_flow:
            share_compiled_flow(folder)
        if rendered:
            share_corpus(folder)
        self.edit_to_small_demo()
        assert self.run("git", "init", "-q").returncode == 0
        self.commit("start")

    def edit_to_small_demo(self) -> None:
        self.edit(SMALLER)

    def edit(self, changes: dict[str, str]) -> None:
        """Replace texts in params.yaml."""
        path = self.folder / "params.yaml"
        text, before_edit = path.read_text(), path.stat().st_mtime
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)
        later = max(time.time(), before_edit + 2)  # git takes a file of equal size and time, in seconds, for unchanged
        os.utime(path, (later, later))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; its errors are part of its output."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run_module(self, name: str, *arguments: str) -> str:
        """Run `python -m NAME ARGUMENTS`, assert that it succeeds and return what it prints."""
        result = self.run(sys.executable, "-m", name, *arguments)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def dvc(self, *arguments: str) -> str:
        """Run DVC, assert that it succeeds and return what it prints."""
        result = self.run("dvc", *arguments)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def commit(self, subject: str) -> None:
        """Commit all changes."""
        for command in (["git", "add", "-A"], ["git", "commit", "-qm", subject]):
            assert self.run(*command).returncode == 0

    def run_experiment(self, *changes: str) -> list[str]:
        """Run an experiment with these parameters changed, up to the scores; return the stages that ran."""
        settings = [part for change in changes for part in ("-S", change)]
        return stages_run(self.dvc("exp", "run", *settings, "evaluate"))

    def list_archives(self) -> None:
        """Write data/archives.csv."""
        self.run_module("tools.archives")

    def use_table(self, table: pd.DataFrame, *changes: str) -> None:
        """Take clips and labels from this table and from the files in data/archives/, with these parameters changed."""
        table.to_csv(self.folder / "data/archives/clips.csv", index=False)
        self.list_archives()
        self.run_module("tools.parameters", "table", *changes)
