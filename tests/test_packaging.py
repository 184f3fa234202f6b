"""pyproject.toml, the requirements files, the changelog and the hooks fit together."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.project_copy import copy_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = {path.stem.removeprefix("requirements-"): path for path in ROOT.glob("requirements-*.txt")}


def requirements(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if re.match(r"\w", line)]


def test_dependencies_equal_requirements() -> None:
    assert PROJECT["dependencies"] == requirements(ROOT / "requirements.txt")


def test_extras_equal_requirements_files() -> None:
    assert PROJECT["optional-dependencies"] == {name: requirements(path) for name, path in FILES.items()}


def test_changelog_has_the_version() -> None:
    assert f"\n## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_front_page_names_the_python_versions() -> None:
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert "Python 3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text()


def test_hooks_use_pinned_tools_without_a_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    pinned = {line.split("==")[0] for line in requirements(FILES["dev"])}
    assert {hook["entry"].split()[0] for hook in config["repos"][0]["hooks"]} <= pinned


@pytest.mark.slow
def test_downloaded_zip_runs_after_git_init(tmp_path: Path) -> None:
    copy_files(tmp_path)  # without .git
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}

    def list_stages() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert "is not a git repository" in list_stages().stderr
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert "train" in list_stages().stdout.split()


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yaml")), ids=lambda path: path.name)
def test_github_files_are_valid_yaml(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    if path.parent.name == "workflows":
        runs = [step.get("run") for job in content["jobs"].values() for step in job["steps"]]
        assert ".ci/run" in runs
        assert (ROOT / ".ci/run").stat().st_mode & 0o111
    else:
        assert {"name", "description", "body"} <= set(content)
