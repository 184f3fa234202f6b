"""The examples run: own clips from a folder and a CSV file to a report, then the notebook with the trained model."""

import json
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest

from examples.own_clips import make_clips, run
from tests.conftest import ROOT
from tests.run_tool import run_tool
from tests.stage_runs import StageRuns

SMALL = ("train.epochs=1", "evaluate.resamples=200", "analyse.control_clips=0", "analyse.importance_clips=0",
         "analyse.robustness_clips=0", "analyse.map_clips=0", "analyse.attention_clips=2")  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    """A copy of the project after both commands of the example. The commands that `run` starts run in this process."""
    project = StageRuns(tmp_path_factory.mktemp("examples"))
    (project.folder / "my").mkdir()

    def start(name: str, *arguments: str) -> None:
        if name == "dvc":
            assert arguments == ("repro",)
            project.run_stages(draw=["headline"])
        else:
            project.run_module(name, *arguments)

    project.run_module(make_clips.__name__, "my", "--clips", "8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run", start)
        project.run_module(run.__name__, "my/clips", "my/ratings.csv", *SMALL, "--range", "1", "7")
    return project


def test_failed_command_ends_the_example() -> None:
    run.run("dvc", "--version")
    with pytest.raises(SystemExit, match="1"):
        run.run("no_such_module")


def test_own_clips_get_a_report(project: StageRuns) -> None:
    predictions = pd.read_csv(project.folder / "data/predictions.csv")
    assert {"lively", "warm"} == set(predictions["target"])
    assert predictions["predicted"].between(1, 7).all()
    assert "lively" in (project.folder / "plots/report.html").read_text()


def test_other_table_is_not_overwritten(project: StageRuns) -> None:
    table_path = project.folder / "other.csv"
    table_path.write_text("file,calm\nperson00.mp4,2\n")
    done = run_tool(run, "my/clips", "other.csv", "--range", "1", "7", cwd=project.folder)
    assert done.returncode == 1
    assert "exists and is not other.csv" in done.stderr


def test_notebook_runs(project: StageRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    notebook = json.loads((ROOT / "examples/quickstart.ipynb").read_text())
    scope: dict = {}
    with mpl.rc_context({"backend": "agg", "figure.max_open_warning": 0}):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
                exec("".join(cell["source"]), scope)
    assert scope["prediction"].rejected == ""
    assert len(scope["windows"]) > 1
    assert Path("plots/quickstart", f"{scope['clip'].stem}.png").stat().st_size > 10_000
    assert scope["faces"].shape[-1] == 3
    rows = scope["table"]
    assert len(rows[(rows["target"] == "mean") & (rows["score"] == "accuracy")]) > 2
