"""docs/reference/system_features.md: each key and file in its tables exists, and each of its commands runs without training.

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
from lib.core.errors import InputError
from tests.conftest import ROOT
from tests.run_tool import run_tool
from tools import parameters

PAGE = ROOT / "docs/reference/system_features.md"
IMPLEMENTED, _, NOT_IMPLEMENTED = PAGE.read_text().partition("\n## Not implemented or not shown")
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", "\n".join(re.findall(r"(?m)^\|[^|]+\|(.+)\|$", IMPLEMENTED)))))
COMMANDS = re.findall(r"(?m)^python -m (.+)$", IMPLEMENTED)
FILES = ("audio_visual", "demo")  # of params/, which have all keys of the page
OWN_FILES = ("training_gt.csv",)  # files of users
WRITTEN = {path.as_posix() for paths in artifacts.OUTPUTS.values() for path in paths}  # by the stages


@pytest.mark.parametrize("name", NAMES)
def test_feature_names_a_key_or_a_file(name: str) -> None:
    key, _, value = name.partition(": ")
    if "/" in name:
        assert name in WRITTEN or (ROOT / name).exists()
    elif name not in OWN_FILES:
        file = find_file(key)
        assert file, name
        if value:
            check_value(file, key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.encoders.audio.net", "frames"),
        ("model.fusion", "attention"),
        ("train.schedule", "default"),
        ("targets.traits.head", "mse"),
        ("model.encoders.audio.length", "none"),
    ],
)
def test_value_that_its_key_does_not_allow_is_an_error(key: str, value: str) -> None:
    file = find_file(key)
    assert file
    with pytest.raises(InputError):
        check_value(file, key, value)


def check_value(file: str, key: str, value: str) -> None:
    """Raise InputError if params/FILE.yaml with KEY: VALUE is invalid."""
    parameters.check(parameters.merge_parameters(file, [f"{key}={value}"]))


def find_file(key: str) -> str | None:
    """Return the name of a file of params/ that has the key."""
    return next((file for file in FILES if has_key(ROOT / f"params/{file}.yaml", key)), None)


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
def test_command_of_a_feature_runs(line: str, folder: Path) -> None:
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
    sections = IMPLEMENTED.split("\n## ")[1:]
    titles = [section.partition("\n")[0] for section in sections]
    tutorial = (ROOT / "docs/tutorials/five_systems.md").read_text()
    systems = re.findall(r"(?m)^## \d\. (\S+)", tutorial)  # the first word of each
    assert len(systems) == 5
    assert all(any(title.startswith(system.rstrip(",")) for title in titles) for system in systems), titles
    assert all("| feature |" in section and "```bash" in section for section in sections)
    assert len(NAMES) > 100
    assert len(COMMANDS) > 35
    assert NOT_IMPLEMENTED.count("\n| ") >= 5
