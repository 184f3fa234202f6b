"""The commands of docs/tutorials/share.md: a remote, files by name and version, and a clone that has nothing to run."""

import copy
import subprocess
from pathlib import Path

import pytest

from lib.core import artifacts
from lib.streams import base
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT
from tests.project_copy import Project, stages_run

PAGE = ROOT / "docs/tutorials/share.md"
PUSH, CLONE, PULL, GET = find_code_blocks(PAGE, "bash")

pytestmark = pytest.mark.slow


def run_block(project: Project, folder: Path, commands: str) -> None:
    """Run commands of the page in a folder. The lab's folder is that of the test."""
    text = commands.replace("/mnt/lab", str(project.folder.parent))
    result = subprocess.run(
        ["bash", "-ec", text], cwd=folder, env=project.environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose stages seem to have run: each output is a small file. Its remote has all of them."""
    folder = tmp_path_factory.mktemp("lab") / "project"
    folder.mkdir()
    project = Project(folder, compiled_flow=False)
    outputs = [*artifacts.OUTPUTS.values(), *map(artifacts.stream_outputs, base.list_names())]
    for path in (folder / output for of_stage in outputs for output in of_stage):
        file = path if path.suffix else path / "shard.h5"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{{}}\n{path.name}\n")
    project.dvc("commit", "--force")
    run_block(project, folder, PUSH)
    return project


def test_clone_pulls_all_files_and_runs_no_stage(project: Project) -> None:
    elsewhere = project.folder.parent / "elsewhere"
    elsewhere.mkdir()
    run_block(project, elsewhere, CLONE)
    clone = copy.copy(project)
    clone.folder = elsewhere / "project"
    run_block(project, clone.folder, PULL)
    assert (clone.folder / artifacts.MODEL).read_text() == "{}\nmodel.pt\n"
    assert stages_run(clone.dvc("repro", "--dry")) == []
    assert clone.run("git", "status", "--short").stdout == ""


def test_model_is_available_by_name_and_by_version(project: Project, tmp_path: Path) -> None:
    model = project.folder / artifacts.MODEL
    first = model.read_text()
    model.unlink()
    model.write_text("second")
    project.dvc("commit", "--force", "train")
    project.dvc("push", "train")
    project.commit("second")
    run_block(project, tmp_path, GET)
    assert (tmp_path / "newest.pt").read_text() == "second"
    assert (tmp_path / "first.pt").read_text() == first


def test_python_reads_a_file_of_the_project(project: Project, tmp_path: Path) -> None:
    (code,) = [block for block in find_code_blocks(PAGE, "python") if "dvc.api" in block]
    code = code.replace("/mnt/lab", str(project.folder.parent)) + "\nprint(list(scores.columns))\n"
    result = project.run("python", "-c", code)
    assert result.returncode == 0, result.stdout
    assert result.stdout.strip() == "['{}']"
