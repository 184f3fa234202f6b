"""docs/tutorials/statements.md: each key and file in its tables exists, and each of its commands runs without training.

`tools.parameters` writes and checks params.yaml in a copy of params/. Other tools start with --help.
"""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from lib.core import artifacts
from tests.conftest import ROOT
from tests.run_tool import run_tool
from tools import parameters

PAGE = ROOT / "docs/tutorials/statements.md"
FULFILLED, _, NOT_FULFILLED = PAGE.read_text().partition("\n## Not fulfilled")
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", "\n".join(re.findall(r"(?m)^\|[^|]+\|(.+)\|$", FULFILLED)))))
COMMANDS = re.findall(r"(?m)^python -m (.+)$", FULFILLED)
DEMO = ROOT / "params/demo.yaml"
OWN_FILES = ("training_gt.csv",)  # files of users
WRITTEN = {path.as_posix() for paths in artifacts.OUTPUTS.values() for path in paths}  # by the stages


@pytest.mark.parametrize("name", NAMES)
def test_statement_names_a_key_or_a_file(name: str) -> None:
    key, _, value = name.partition(": ")
    if "/" in name:
        assert name in WRITTEN or (ROOT / name).exists()
    elif name not in OWN_FILES:
        assert any(has_key(path, key) for path in (DEMO, ROOT / "params/audio_visual.yaml")), name
        assert not value or value in DEMO.read_text()


def has_key(path: Path, key: str) -> bool:
    section = yaml.safe_load(path.read_text())
    for part in key.split("."):
        if part not in section:
            return False
        section = section[part]
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which tools.parameters can run."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params", folder / "params")
    shutil.copy(ROOT / "dvc.yaml", folder)
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_command_of_a_statement_runs(line: str, folder: Path) -> None:
    module, *arguments = shlex.split(line)
    if module == "tools.parameters":
        done = run_tool(parameters, *arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert f"params.yaml is params/{arguments[0]}.yaml" in done.stdout
        written = yaml.safe_load((folder / "params.yaml").read_text())
        for change in arguments[1:]:
            key, value = parameters.parse_change(change)
            for part in key.split("."):
                written = written[part] if isinstance(written, dict) else written
            assert written == parameters.plain(value)
            written = yaml.safe_load((folder / "params.yaml").read_text())
        return
    tool = ROOT / f"{module.replace('.', '/')}"
    done = run_tool(import_module(f"{module}.__main__" if tool.is_dir() else module), *arguments, "--help", cwd=folder)
    assert done.returncode == 0
    assert f"python -m {module}" in done.stdout


def test_page_has_a_table_and_commands_for_each_system() -> None:
    sections = FULFILLED.split("\n## ")[1:]
    titles = [section.partition("\n")[0] for section in sections]
    tutorial = (ROOT / "docs/tutorials/five_systems.md").read_text()
    systems = re.findall(r"(?m)^## \d\. (\S+)", tutorial)  # the first word of each
    assert len(systems) == 5
    assert all(any(title.startswith(system.rstrip(",")) for title in titles) for system in systems), titles
    assert all("| statement |" in section and "```bash" in section for section in sections)
    assert len(NAMES) > 100
    assert len(COMMANDS) > 35
    assert NOT_FULFILLED.count("\n| ") >= 5
