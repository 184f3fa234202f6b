"""tools/new.py: each new member passes its own test and the contract tests."""

import re
import textwrap
from pathlib import Path

import pytest

from lib.core.errors import InputError
from tests.project_copy import copy_files, run_python, run_tests
from tools import new

NAMES_BY_KIND = {
    "stream": "loudness",
    "encoder": "highest",
    "fusion": "maximum",
    "source": "others",
    "analysis": "spread",
    "figure": "spans",
}
"""The name of a member of each kind that `tools.new` writes."""


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, which is the current folder."""
    copy_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_members_pass_their_tests_and_the_contract(project_folder: Path) -> None:
    written = {kind: new.create(kind, name) for kind, name in NAMES_BY_KIND.items()}
    assert [len(files) for files in written.values()] == [5, 4, 5, 2, 6, 2]
    written["brightness"] = new.create("stream", "brightness", "raw")
    written["gaze"], written["gaze encoder"] = (
        new.create("stream", "gaze", "faces"),
        new.create("encoder", "gaze", "gaze"),
    )
    run_tests(project_folder, *(str(files[1]) for files in written.values()), "tests/test_contract.py")


def test_new_prints_the_next_steps(project_folder: Path) -> None:
    printed = run_python(project_folder, "-m", "tools.new", "stream", "gaze", "--input", "faces").splitlines()
    assert printed[:2] == ["written: lib/streams/gaze.py", "written: tests/test_stream_gaze.py"]
    assert printed[-1] == "use it: set gaze.enabled: true, and reads: [gaze] in an encoder of model.use (params.yaml)"
    printed = run_python(project_folder, "-m", "tools.new", "encoder", "gaze", "--reads", "gaze").splitlines()
    assert printed[-2] == "test it: python -m pytest -n 0 tests/test_encoder_gaze.py tests/test_contract.py"
    assert "reads: [gaze], which must be enabled" in printed[-1]


def test_documented_numbers_of_files_are_true(project_folder: Path) -> None:
    page = Path("docs/development.md").read_text()
    rows = {
        "stream": "a stream that the model reads",
        "encoder": "a kind of encoder",
        "fusion": "a fusion",
        "source": "a source",
        "analysis": "an analysis",
        "figure": "a figure",
    }
    for kind, name in NAMES_BY_KIND.items():
        (documented,) = re.findall(rf"^\| {rows[kind]} \| (\d+) \|", page, re.M)
        files = [path for path in new.create(kind, name) if not str(path).startswith("tests/")]
        assert len(files) == int(documented), kind


def test_new_encoder_trains_with_the_default_rate(project_folder: Path) -> None:
    new.create("encoder", "highest")
    run_python(project_folder, "-m", "tools.parameters", "demo", "model.use=[highest]", "audio.enabled=true")
    script = """
        from lib.core import parameters
        from lib.training.settings import Parameters
        given = parameters.load("train", Parameters)
        settings_by_encoder, _ = given.resolve()
        print(*settings_by_encoder, given.train.rate("highest") == given.train.learning_rate["default"])
    """
    assert run_python(project_folder, "-c", textwrap.dedent(script)).strip() == "highest True"


def test_new_rejects_invalid_names_and_existing_files(project_folder: Path) -> None:
    for name in ("2d", "_helper", "Loudness", "class"):
        with pytest.raises(InputError, match="allowed: lower-case letters"):
            new.create("stream", name)
    with pytest.raises(InputError, match=r"lib/streams/faces exists already"):
        new.create("stream", "faces")
    for name in ("multitask", "plain_concat", "fusion"):
        with pytest.raises(InputError, match=rf"name = '{name}', but lib/model/fusions\.py has"):
            new.create("fusion", name)
    for kind, source in (("stream", "audio.mfcc"), ("stream", "smell"), ("encoder", "raw")):
        with pytest.raises(InputError, match=f"stream '{source}' does not exist; allowed: "):
            new.create(kind, "gaze", source)
