"""tools/multitask.py trains two target groups with one network, on the encoders of single models, and compares them."""

import json
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.core.errors import InputError
from tests.experiment_runs import ExperimentRuns
from tests.project_copy import WITHOUT_VIDEO
from tests.stage_runs import StageRuns
from tools import multitask
from tools.experiments import DVC

ENCODER = (
    "{kind: sequence_transformer, reads: [features], take: all, steps: 1, positions: 3, width: 24, heads: 2,"
    " feed_forward: 24, depth: 1, dropout: 0.0, norm: after, mask: true, weights: null, frozen: false}"
)
GROUPS = ("own", "emotions")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    """Forty clips, half with labels of `warm`, half of three emotions. All labels depend on the first of two features."""
    project, rng = StageRuns(tmp_path_factory.mktemp("multitask")), np.random.default_rng(0)
    rows, features = [], {}
    for number in range(40):
        clip, value = f"person{number}.000.mp4", rng.uniform()
        features |= {clip: np.column_stack([np.full(3, value), rng.normal(size=3)]), f"{clip}:times": np.arange(3.0)}
        is_rated = number % 2
        shares = {"neutral": 1 - value, "anger": value, "joy": 0} if is_rated else {}
        split = ("training", "training", "training", "validation", "test")[number // 2 % 5]
        rows.append({"clip": clip, "split": split, "warm": None if is_rated else value} | shares)
    np.savez(project.folder / "data/archives/features.npz", **features)
    project.use_table(
        pd.DataFrame(rows), *WITHOUT_VIDEO, "features.enabled=true", "features.files=[features.npz]",
        "download.table.targets={warm: [0, 1], neutral: [0, 1], anger: [0, 1], joy: [0, 1]}",
        "targets.own.columns=[warm]", "targets.own.range=[0, 1]", "targets.emotions.columns=[neutral, anger, joy]",
        "targets.emotions.detect=[anger]", "model.targets=[own, emotions]", "model.use=[of_own, of_emotions]",
        "model.heads=2", "model.dropout=0.0", f"model.encoders.of_own={ENCODER}", f"model.encoders.of_emotions={ENCODER}",
        "model.fusion=multitask", "model.hidden=16", "train.epochs=1",
        "train.learning_rate={default: 0.001}", "evaluate.resamples=100",
        "analyse.attention_clips=2", "analyse.control_repeats=1",
    )  # fmt: skip
    project.run_stages(last="features")
    return project


def test_multitask_reuses_single_models_encoders(project: StageRuns, tmp_path: Path) -> None:
    experiments, command = ExperimentRuns(tmp_path), ("tools.multitask", "--seeds", "0", "--resamples", "200")
    with experiments.replace_dvc():
        project.run_module(*command)
    assert experiments.runs == [f"multitask-{name}-seed0" for name in (*GROUPS, *multitask.FUSIONS)]
    for group in GROUPS:
        table = pd.read_csv(project.folder / f"plots/multitask-{group}.csv")
        assert {group, "multitask", "multitask_pooled", "mean_predictor"} <= set(table["predictor"])
    pooled = torch.load(project.folder / "data/model.pt", weights_only=True)
    assert pooled["model"]["fusion"] == "multitask_pooled"
    assert list(pooled["targets"]) == ["own", "emotions"]
    for group in GROUPS:
        path = Path("data/.work/multitask", f"multitask-{group}-seed0.pt")
        single = torch.load(project.folder / path, weights_only=True)
        assert pooled["model"]["encoders"][f"of_{group}"]["weights"] == str(path)
        name = f"encoders.of_{group}.input_proj.weight"
        assert torch.equal(single["weights"][name], pooled["weights"][name])
    project.run_stages(first="train", draw=["confusion"])
    assert (project.folder / "plots/figures/emotions/confusion.png").stat().st_size > 5000
    assert "do not tell what a person feels" in (project.folder / "plots/report.html").read_text()
    assert "Article 5(1)(f)" in (project.folder / "docs/model_card.md").read_text()
    with experiments.replace_dvc():
        assert project.run_module(*command).count(" is there") == 4
    assert len(experiments.runs) == 4


def test_save_model_reads_the_model_of_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for role, field in product(("AUTHOR", "COMMITTER"), ("NAME", "EMAIL")):
        monkeypatch.setenv(f"GIT_{role}_{field}", "a@b")
    stage = {"cmd": "mkdir -p data && cp params.yaml data/model.pt", "params": ["seed"], "outs": ["data/model.pt"]}
    Path("dvc.yaml").write_text(json.dumps({"stages": {"train": stage}}))
    Path("params.yaml").write_text("seed: 0\n")
    commands = ["git init -q", "dvc init -q", "git add -A", "git commit -qm start", "dvc exp run -q -n other -S seed=1"]
    for program, *arguments in map(str.split, commands):
        subprocess.run([*(DVC if program == "dvc" else [program]), *arguments], check=True)
    Path("data/model.pt").unlink()
    assert multitask.save_model("other").read_text() == "seed: 1\n"


def test_multitask_rejects_encoders_that_do_not_fit() -> None:
    model = {"use": ["faces"], "targets": ["traits"], "encoders": {"faces": {"kind": "images"}}}
    with pytest.raises(InputError, match=r"model\.use = \['faces'\] of kinds \['images'\] for model\.targets"):
        multitask.singles(model)
