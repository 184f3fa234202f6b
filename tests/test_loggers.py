"""Loggers receive the parameters, the curves of each target, the scores, the figures and the model."""

import json
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from lib.core import loggers
from lib.core.errors import SettingError
from lib.report import write
from tests.conftest import ROOT
from tests.small_network import TinyNetwork, train_network

R2 = "test/traits/r2/openness"
CURVE = "validation_r2_traits.openness"
FIGURE = "figures/traits/headline"
PARAMETERS = {"train": {"batch_size": 4, "learning_rate": {"default": 0.001}, "init": None}}

needs_dvclive = pytest.mark.skipif(find_spec("dvclive") is None, reason="requirements-dvclive.txt is not installed")
needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="requirements-mlflow.txt is not installed")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a model and a figure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "model.pt").write_bytes(b"weights")
    Image.new("RGB", (8, 6), "red").save(tmp_path / "headline.png")
    return tmp_path


def run_logger(name: str) -> list[dict[str, float]]:
    """Train two epochs with a logger, then log results as the stage figures does; return the history."""
    _, history = train_network(Path("work"), TinyNetwork(), loggers=[name])  # type: ignore[arg-type]
    results = loggers.LoggedResults({R2: 0.25}, {FIGURE: Path("headline.png")}, Path("model.pt"))
    loggers.log_results([name], PARAMETERS, results)
    return history


@pytest.mark.slow
def test_tensorboard_receives_a_complete_run(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run_logger("tensorboard")
    (run,) = (folder / "logs/tensorboard").iterdir()  # results continue the run
    events = EventAccumulator(str(run))
    events.Reload()
    assert [event.value for event in events.Scalars(CURVE)] == pytest.approx([row[CURVE] for row in history])
    assert [event.value for event in events.Scalars(R2)] == [0.25]
    assert (events.Images(FIGURE)[0].width, events.Images(FIGURE)[0].height) == (8, 6)
    assert '"batch_size": 4' in events.Tensors("parameters/text_summary")[0].tensor_proto.string_val[0].decode()
    assert (run / "model.pt").read_bytes() == b"weights"


@pytest.mark.slow
def test_wandb_receives_a_complete_run(folder: Path) -> None:
    run_logger("wandb")
    runs = sorted((folder / "logs/wandb").glob("offline-run-*/*.wandb"))
    assert len({path.stem for path in runs}) == 1  # both parts have one identifier

    def read() -> bytes:
        return b"".join(path.read_bytes() for path in runs)

    deadline = time.monotonic() + 60  # W&B's process may still write after the run
    while not all(word in read() for word in (CURVE.encode(), R2.encode())) and time.monotonic() < deadline:
        time.sleep(0.2)
    for word in (CURVE, R2, "batch_size", "headline", "model.pt"):
        assert word.encode() in read(), word


@needs_dvclive
@pytest.mark.slow
def test_dvclive_receives_a_complete_run_and_keeps_dvc_yaml(folder: Path) -> None:
    from dvc.repo import Repo

    Repo.init(no_scm=True).close()
    (folder / "dvc.yaml").write_text("stages: {}\n")
    history = run_logger("dvclive")
    live = folder / "logs/dvclive"
    curve = pd.read_csv(live / f"plots/metrics/{CURVE}.tsv", sep="\t")
    assert curve[CURVE].tolist() == pytest.approx([row[CURVE] for row in history])
    scores = json.loads((live / "metrics.json").read_text())
    assert scores["test"]["traits"]["r2"]["openness"] == 0.25
    assert yaml.safe_load((live / "params.yaml").read_text())["train.batch_size"] == 4
    assert (live / f"plots/images/{FIGURE}.png").is_file()
    assert (live / "artifacts/model.pt").read_bytes() == b"weights"
    assert (folder / "dvc.yaml").read_text() == "stages: {}\n"
    assert not list(folder.rglob("*.dvc"))[1:]  # the folder .dvc alone


@needs_mlflow
@pytest.mark.slow
def test_mlflow_receives_a_complete_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    history = run_logger("mlflow")
    client = mlflow.MlflowClient((folder / "logs/mlflow").as_uri())
    experiment = client.get_experiment_by_name("apparent-personality")
    (run,) = client.search_runs([experiment.experiment_id])
    curve = client.get_metric_history(run.info.run_id, CURVE)
    assert [(point.step, point.value) for point in curve] == [
        (row["epoch"], pytest.approx(row[CURVE])) for row in history
    ]
    assert run.data.metrics[R2] == 0.25
    assert run.data.params["train.batch_size"] == "4"
    stored = [path.path for path in client.list_artifacts(run.info.run_id, "figures/figures/traits")]
    assert stored == ["figures/figures/traits/headline.png"]
    assert "model.pt" in [path.path for path in client.list_artifacts(run.info.run_id)]
    assert run.info.status == "FINISHED"


def test_results_without_a_run_begin_one(folder: Path) -> None:
    results = loggers.LoggedResults({R2: 0.25}, {}, Path("model.pt"))
    loggers.log_results(["tensorboard"], PARAMETERS, results)
    loggers.log_results(["tensorboard"], PARAMETERS, results)
    assert sorted(path.name for path in (folder / "logs/tensorboard").iterdir()) == ["version_0", "version_1"]


@pytest.mark.parametrize("name", ["dvclive", "mlflow"])
def test_missing_package_names_its_requirements(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda module: None if module == name else object())
    loggers.check_packages(["tensorboard", "wandb"])
    with pytest.raises(
        SettingError, match=rf"train\.loggers has {name}, .*; run pip install -r requirements-{name}\.txt"
    ):
        loggers.check_packages(["tensorboard", name])
    assert (ROOT / f"requirements-{name}.txt").is_file()


def test_parameters_are_flattened_by_name() -> None:
    assert dict(loggers.flatten(PARAMETERS)) == {
        "train.batch_size": 4,
        "train.learning_rate.default": 0.001,
        "train.init": "None",
    }


def test_stage_figures_logs_scores_and_figures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[loggers.LoggedResults] = []
    monkeypatch.setattr(loggers, "log_results", lambda names, parameters, results: received.append(results))
    rows = [("model", "all", "r2", 0.25), ("model", "seen_videos", "r2", 0.5), ("ridge", "all", "r2", 0.75)]
    scores = pd.DataFrame(rows, columns=["predictor", "subset", "score", "value"]).assign(
        targets="traits", target="openness"
    )
    run = SimpleNamespace(split="test", parameters={"train": {"loggers": ["tensorboard"]}})
    loaded: Any = SimpleNamespace(results=SimpleNamespace(scores=scores), run=run)
    drawn: Any = [SimpleNamespace(targets="traits", file=Path("plots/figures/traits/headline.png"))]
    write.log_results(loaded, drawn)
    assert received[0].scores == {R2: 0.25}
    assert received[0].figures == {FIGURE: Path("plots/figures/traits/headline.png")}
    assert received[0].model == Path("data/model.pt")
