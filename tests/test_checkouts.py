"""Other checkouts and runs of the project: a Git worktree with a shared DVC cache, a shallow clone, umask 077, a queue."""

import copy
import io
import time

import pandas as pd
import pytest

from tests.project_copy import Project, stages_run
from tests.rendered_corpus import share_corpus


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project with frames of 20 clips, whose DVC cache is outside its folder and gives out symbolic links."""
    folder = tmp_path_factory.mktemp("checkouts") / "project"
    folder.mkdir()
    project = Project(folder, compiled_flow=False, rendered=True)
    project.dvc("cache", "dir", str(folder.parent / "cache"))
    project.dvc("config", "cache.type", "symlink")
    assert stages_run(project.dvc("repro", "frames")) == ["download", "frames"]
    project.commit("frames")
    return project


def check_out(project: Project, name: str, *command: str) -> Project:
    """Return the project in the folder `name`, which a command of Git creates, with the files that the DVC cache has."""
    assert project.run("git", *command).returncode == 0
    other = copy.copy(project)
    other.folder = project.folder.parent / name
    other.dvc("checkout", "--allow-missing")  # the other stages have not run
    return other


def read_shards(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project.folder / "data/frames").glob("*.h5")}


def test_worktree_uses_links_to_the_shared_cache(project: Project) -> None:
    worktree = check_out(project, "worktree", "worktree", "add", "-q", "../worktree")
    assert stages_run(worktree.dvc("repro", "frames")) == []
    before, cache = read_shards(project), project.folder.parent / "cache"
    assert len(before) == 3
    assert read_shards(worktree) == before
    for path in (worktree.folder / "data/frames").iterdir():
        assert path.is_symlink()
        assert path.resolve().is_relative_to(cache)
    worktree.edit({"fps: 5\n": "fps: 4\n"})
    assert stages_run(worktree.dvc("repro", "frames")) == ["frames"]
    assert read_shards(worktree) != before
    assert read_shards(project) == before
    assert project.run("git", "status", "--short").stdout == ""


def test_clone_without_files_runs_the_committed_stages_again(project: Project) -> None:
    assert project.run("git", "clone", "-q", str(project.folder), "../empty").returncode == 0
    other = copy.copy(project)
    other.folder = project.folder.parent / "empty"
    share_corpus(other.folder)
    other.dvc("cache", "dir", "--local", str(other.folder / "cache"))
    assert stages_run(other.dvc("repro", "frames")) == ["download", "frames"]
    assert read_shards(other) == read_shards(project)
    changed = {line[3:] for line in other.run("git", "status", "--short", "--untracked-files=no").stdout.splitlines()}
    assert changed <= {"dvc.lock", "metrics/download.json", "metrics/frames.json"}


def test_shallow_clone_runs_an_experiment(project: Project) -> None:
    clone = check_out(project, "clone", "clone", "-q", "--depth", "1", f"file://{project.folder}", "../clone")
    assert clone.run("git", "rev-list", "--count", "HEAD").stdout.strip() == "1"
    assert stages_run(clone.dvc("exp", "run", "-n", "shallow", "-S", "frames.fps=7", "frames")) == ["frames"]
    assert clone.dvc("exp", "list", "--name-only").split() == ["shallow"]


def test_outputs_under_umask_077_are_private(project: Project) -> None:
    private = check_out(project, "private", "worktree", "add", "-q", "../private")
    private.edit({"quality: 90": "quality: 80"})
    result = private.run("sh", "-c", "umask 077 && dvc repro frames")
    assert result.returncode == 0, result.stdout
    assert stages_run(result.stdout) == ["frames"]
    for path in ("data/frames", "metrics/frames.json", "logs/frames.log"):
        assert (private.folder / path).stat().st_mode & 0o077 == 0
    assert stages_run(private.dvc("repro", "frames")) == []


def test_queue_with_two_jobs_runs_each_experiment(project: Project) -> None:
    for fps, name in ((3, "three"), (6, "six")):
        project.dvc("exp", "run", "--queue", "-n", name, "-S", f"frames.fps={fps}", "frames")
    project.dvc("queue", "start", "-j", "2")
    deadline = time.monotonic() + 300
    while (status := project.dvc("queue", "status")).count("Success") < 2:
        assert "Failed" not in status, status
        assert time.monotonic() < deadline, status
        time.sleep(3)
    table = pd.read_csv(io.StringIO(project.dvc("exp", "show", "--csv"))).set_index("Experiment")
    assert table["frames"].loc[["three", "six"]].tolist() == [20 * 2 * 3, 20 * 2 * 6]
    assert project.run("git", "status", "--short").stdout == ""
