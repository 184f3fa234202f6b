"""The examples run: own clips from a folder and a CSV file to a report, then the notebook with the trained model."""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.project_copy import Project

SMALL = ("train.epochs=1", "evaluate.resamples=200", "analyse.control_clips=0", "analyse.importance_clips=0",
         "analyse.robustness_clips=0", "analyse.map_clips=0", "analyse.attention_clips=2")  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("examples"))
    (project.folder / "my").mkdir()
    commands = (
        ["make_clips", "my", "--clips", "8"],
        ["run", "my/clips", "my/ratings.csv", *SMALL, "--range", "1", "7"],
    )
    for name, *arguments in commands:
        project.run_module(f"examples.own_clips.{name}", *arguments)
    return project


def test_own_clips_get_a_report(project: Project) -> None:
    predictions = pd.read_csv(project.folder / "data/predictions.csv")
    assert {"lively", "warm"} == set(predictions["target"])
    assert predictions["predicted"].between(1, 7).all()
    assert "lively" in (project.folder / "plots/report.html").read_text()


def test_other_table_is_not_overwritten(project: Project) -> None:
    table_path = project.folder / "other.csv"
    table_path.write_text("file,calm\nperson00.mp4,2\n")
    done = project.run(sys.executable, "-m", "examples.own_clips.run", "my/clips", "other.csv", "--range", "1", "7")
    assert done.returncode == 1
    assert "exists and is not other.csv" in done.stdout


def test_notebook_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    notebook = json.loads((ROOT / "examples/quickstart.ipynb").read_text())
    scope: dict = {}
    with mpl.rc_context({"backend": "agg", "figure.max_open_warning": 0}):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
                exec("".join(cell["source"]), scope)
    assert scope["prediction"].refused == ""
    assert len(scope["windows"]) > 1
    assert Path("plots/quickstart", f"{scope['clip'].stem}.png").stat().st_size > 10_000
    assert scope["faces"].shape[-1] == 3
    rows = scope["table"]
    assert len(rows[(rows["target"] == "mean") & (rows["score"] == "accuracy")]) > 2
