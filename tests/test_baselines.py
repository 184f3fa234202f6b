"""tools.baselines on FIV2's annotation files, on the workspace's clips, over folds and for emotions."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

import tools.baselines
from lib.core.clips import column_names
from lib.core.targets import TRAITS, TargetGroup
from lib.scoring import baselines
from tests.conftest import ROOT
from tests.run_tool import run_tool
from tests.test_compare import labels
from tools import parameters

__all__ = ["labels"]

EMOTIONS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]


def make_workspace(folder: Path, name: str, table: pd.DataFrame, *changes: str) -> None:
    """Write params.yaml, dvc.yaml and data/clips.csv, in a DVC project without git."""
    (folder / "data").mkdir()
    with (folder / "params.yaml").open("w") as file:
        parameters.dump(parameters.merge_parameters(name, list(changes)), file)
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    columns = [column for column in table if column not in column_names([])]
    table = table.assign(corpus="mosei", shard="x", reason="").reindex(columns=column_names(columns))
    table.to_csv(folder / "data/clips.csv", index=False)


def test_baselines_of_annotation_files_have_intervals(labels: pd.DataFrame, tmp_path: Path) -> None:
    result = run_tool(
        tools.baselines, str(tmp_path), "--resamples", "100", "--out", str(tmp_path / "out.csv"), cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert "30 training clips, 60 test clips" in result.stdout
    assert "1 − MAE, all clips (60 clips, 20 videos)" in result.stdout
    scores = pd.read_csv(tmp_path / "out.csv").set_index(["subset", "predictor", "score", "target"])
    error = np.abs(labels[list(TRAITS)] - baseline_mean(tmp_path)).to_numpy().mean()
    row = scores.loc[("all", "mean_predictor", "accuracy", "mean")]
    assert row["value"] == pytest.approx(1 - error, abs=1e-6)
    assert row["low"] < row["value"] < row["high"]
    assert f"| training mean | {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}] |" in result.stdout


def baseline_mean(folder: Path) -> np.ndarray:
    from lib.sources import fiv2

    return fiv2.read(folder / "annotation_training.pkl")[list(TRAITS)].mean().to_numpy()


def test_each_clip_is_scored_once_over_folds(labels: pd.DataFrame, tmp_path: Path) -> None:
    result = run_tool(
        tools.baselines,
        str(tmp_path),
        "--folds",
        "4",
        "--resamples",
        "100",
        "--out",
        str(tmp_path / "out.csv"),
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    assert "all clips, all of unseen videos (90 clips, 20 videos)" in result.stdout
    assert set(pd.read_csv(tmp_path / "out.csv")["clips"]) == {90}


def test_wrong_splits_are_rejected(labels: pd.DataFrame, tmp_path: Path) -> None:
    result = run_tool(tools.baselines, str(tmp_path), "--test", "training", cwd=ROOT)
    assert "--train training --test training; allowed: two different splits" in result.stderr
    result = run_tool(tools.baselines, str(tmp_path), "--folds", "2", cwd=ROOT)
    assert "--folds 2; allowed: 3 or more, because one fold chooses penalties" in result.stderr
    result = run_tool(tools.baselines, str(tmp_path), "--test", "validation", cwd=ROOT)
    assert "no clip of the split validation has labels; splits with labels: test, training; choose" in result.stderr


def test_emotions_have_presence_baselines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    present = rng.random((120, 6)) < [0.7, 0.2, 0.1, 0.6, 0.3, 0.1]
    table = pd.DataFrame(present.astype(float), columns=[f"{name}_present" for name in EMOTIONS])
    table = table.assign(clip=[f"c{index}" for index in range(120)], video=[f"v{index // 2}" for index in range(120)])
    table["split"] = np.repeat(["training", "validation", "test"], [60, 20, 40])
    make_workspace(tmp_path, "emotions", table)
    result = run_tool(
        tools.baselines, "--targets", "emotions_binary", "--resamples", "100", "--out", "out.csv", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    values, presence = result.stdout.split("\nF1, all clips")
    assert "always present" not in values
    assert "| always present |" in presence
    assert "weighted F1, all clips" in presence
    scores = pd.read_csv(tmp_path / "out.csv").set_index(["subset", "predictor", "score", "target"])["value"]
    test = present[80:]
    for column, name in enumerate(EMOTIONS):
        target = f"{name}_present"
        assert scores["all", "always_present", "f1", target] == pytest.approx(
            f1_score(test[:, column], np.ones(40)), abs=1e-6
        )
        majority = np.full(40, present[:60, column].mean() >= 0.5)
        assert scores["all", "majority", "weighted_f1", target] == pytest.approx(
            f1_score(test[:, column], majority, average="weighted"), abs=1e-6
        )


def test_presence_baselines_need_a_group_with_presence() -> None:
    group = TargetGroup(columns=["warm"], range=[0, 3], head="linear", loss="mse", weight=1)
    table = pd.DataFrame({"warm": [0.0, np.nan, 1.0, 2.0]})
    assert baselines.predict_presence(table, table, group) == {}
    detected = baselines.predict_presence(table, table[:2], group.model_copy(update={"detect": ["warm"]}))
    np.testing.assert_array_equal(detected["majority"], [[3], [3]])
    np.testing.assert_array_equal(detected["always_present"], [[3], [3]])
