"""Skeletons of new members: each passes its own test and the contract."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.core.errors import InputError
from tests.conftest import ROOT
from tools import new

KINDS = {"stream": "loudness", "encoder": "highest", "source": "others", "analysis": "spread", "figure": "spans"}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, in which the skeletons are written."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.splitlines()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_members_pass_their_tests_and_the_contract(copy: Path) -> None:
    written = {kind: new.create(kind, name) for kind, name in KINDS.items()}
    assert [len(files) for files in written.values()] == [5, 4, 2, 6, 2]
    tests = [f"tests/test_{name}.py" for name in KINDS.values()]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        *tests,
        "tests/test_contract.py",
    ]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_new_rejects_names_and_files_that_are_there(copy: Path) -> None:
    for name in ("2d", "_helper", "Loudness", "class"):
        with pytest.raises(InputError, match="allowed: a module's name in small letters"):
            new.create("stream", name)
    with pytest.raises(InputError, match=r"lib/streams/faces exists already"):
        new.create("stream", "faces")
