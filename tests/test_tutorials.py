"""The code of the tutorials runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.core.shards import Record
from tests.conftest import ROOT

PAGE = ROOT / "docs/tutorials/add_a_stream.md"
FOLDERS = ("lib", "stages", "tools", "tests", "params")


def blocks(kind: str) -> list[str]:
    """Return the tutorial's blocks of code of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the tutorial was followed."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (module,), (section, encoder, stage) = blocks("python"), blocks("yaml")
    (folder / "lib/streams/loudness.py").write_text(module)
    whole = (ROOT / "params.yaml").read_text()
    whole = whole.replace("\nmodel:\n", f"\n{section}\nmodel:\n").replace("\n    flow:\n", f"\n{encoder}    flow:\n")
    for name in ("params.yaml", "params/demo.yaml"):
        (folder / name).write_text(whole)
    stages = (ROOT / "dvc.yaml").read_text().replace("\n  train:\n", f"\n{stage}  train:\n")
    (folder / "dvc.yaml").write_text(
        stages.replace("    - data/flow\n    - data/desc", "    - data/flow\n    - data/loudness\n    - data/desc")
    )
    return folder


def test_new_stream_makes_a_record() -> None:
    scope: dict = {"__name__": "loudness"}
    exec(blocks("python")[0], scope)
    stream = scope["STREAM"]
    assert stream.inputs == ("audio",)
    audio = Record("a.mp4", {"log_mel": np.arange(12.0).reshape(3, 4), "times": np.arange(3.0)})
    made = stream.make_extractor(stream.settings(enabled=True, offset=1.0))(audio)
    assert stream.read_steps(made, np.array([0, 2])).tolist() == [[2.5], [10.5]]
    assert made.arrays["times"].tolist() == [0, 1, 2]


def test_new_stream_passes_the_contract(project: Path) -> None:
    for arguments in (
        ["-m", "tools.parameters", "demo", "model.use=[faces,flow,loudness]"],
        ["-m", "tools.parameters", "demo"],
        [
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "tests/test_contract.py",
            "-k",
            "loudness or train",
        ],
    ):
        done = subprocess.run([sys.executable, *arguments], cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
