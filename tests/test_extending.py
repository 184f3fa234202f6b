"""Make every addition that docs/development.md describes in one copy of the project, then run that copy completely."""

import re
import shutil
import sys

import h5py
import pandas as pd
import pytest
import torch

from tests.conftest import ROOT
from tests.project_copy import Project, run_tests
from tests.test_new import NAMES_BY_KIND

NOT_NEEDED = "faces", "flow", "descriptors"
"""Streams that no addition reads. They take most of the time of a run."""

GROUP = """
targets:
  lively:
    columns: [openness, extraversion]
    range: [0, 1]
    head: tanh
    loss: fourth_power
    weight: 2.0"""

HEAD = """

class Tanh(Head):
    def predict(self, raw):
        return HeadOutput((raw.tanh() + 1) / 2)


HEADS:"""
LOSS = """

def fourth_power(predicted, actual, weights):
    return _mean(weights * (predicted.mean - actual.nan_to_num()) ** 4, actual.isfinite())


LOSSES:"""
OPTIMIZER = """

def _plain(groups, settings):
    from torch.optim import SGD

    return SGD(groups)


OPTIMIZERS:"""
SAMPLER = """

def take_first(present, count, rng):
    return present[:count]


SAMPLERS:"""
EDITS: list[tuple[str, str, str]] = [
    ("params.yaml", "loudness:\n  enabled: false", "loudness:\n  enabled: true"),
    (
        "params.yaml",
        "reads: [audio.mfcc]\n      take: all\n      steps: 1",
        "reads: [loudness]\n      take: first\n      steps: 9",
    ),
    ("params.yaml", "use: [faces, flow]", "use: [faces, highest]"),
    ("params.yaml", "learning_rate: {default: 0.001}", "learning_rate: {default: 0.001, highest: 0.01}"),
    ("params.yaml", "sources: [demo]", "sources: [demo, others]"),
    ("params.yaml", "\ntargets:", GROUP),
    ("params.yaml", "targets: [traits]", "targets: [traits, lively]"),
    ("params.yaml", "fusion: cross_attention\n", "fusion: maximum\n"),
    ("params.yaml", "optimizer: adamw\n", "optimizer: plain\n"),
    ("lib/model/heads.py", "\n\nHEADS:", HEAD),
    ("lib/model/heads.py", '"linear": Linear,', '"linear": Linear, "tanh": Tanh,'),
    ("lib/core/targets.py", '"linear": _ON_MEANS,', '"linear": _ON_MEANS, "tanh": ("fourth_power",),'),
    ("lib/training/losses.py", "\n\nLOSSES:", LOSS),
    ("lib/training/losses.py", '"bce": bce,', '"bce": bce, "fourth_power": fourth_power,'),
    ("lib/training/optim.py", "\n\nOPTIMIZERS:", OPTIMIZER),
    ("lib/training/optim.py", '"sgd": _sgd,', '"sgd": _sgd, "plain": _plain,'),
    ("lib/data/samplers.py", "\n\nSAMPLERS:", SAMPLER),
    ("lib/data/samplers.py", '"all": Sampler(', '"first": Sampler(take_first, random=False), "all": Sampler('),
    ("lib/scoring/scores.py", '"mae": mae,', '"mae": mae, "half_mae": mae / 2,'),
]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with one addition of every kind."""
    project = Project(tmp_path_factory.mktemp("extended"), compiled_flow=False, rendered=True)
    for kind, name in NAMES_BY_KIND.items():
        project.run_module("tools.new", kind, name)
    for name, before, after in EDITS:
        path = project.folder / name
        assert before in path.read_text(), f"{before!r} is not in {name}"
        path.write_text(path.read_text().replace(before, after))
    shutil.copy(project.folder / "params.yaml", project.folder / "params/demo.yaml")
    project.commit("extended")
    return project


@pytest.fixture(scope="module")
def project(extended: Project) -> Project:
    """The same copy after a run of all stages in one process. Only new figures are drawn."""
    extended.edit({f"\n{name}:\n  enabled: true": f"\n{name}:\n  enabled: false" for name in NOT_NEEDED})
    extended.edit({"use: [faces, highest]": "use: [audio, highest]"})
    script = "from tests.stage_runs import run_stages; run_stages(draw=['spans', 'quantiles'])"
    result = extended.run(sys.executable, "-c", script)
    assert result.returncode == 0, result.stdout
    return extended


def test_documented_dictionaries_are_those_of_the_additions() -> None:
    sentence = re.search(r"Add yours to the dictionary.*?\.", (ROOT / "docs/development.md").read_text(), re.DOTALL)
    assert sentence
    dictionaries = {before.strip("\n:") for _, before, _ in EDITS if re.fullmatch(r"\n\n[A-Z]+:", before)}
    assert {*re.findall(r"`([A-Z]+)`", sentence[0])} == dictionaries


def test_dvc_has_the_new_stage(extended: Project) -> None:
    assert "loudness" in extended.dvc("stage", "list", "--name-only").split()


def test_additions_pass_the_contract_and_their_tests(extended: Project) -> None:
    run_tests(
        extended.folder,
        "tests/test_contract.py",
        *(f"tests/test_{kind}_{name}.py" for kind, name in NAMES_BY_KIND.items()),
    )


def test_new_stream_encoder_and_source_are_used(project: Project) -> None:
    clips = pd.read_csv(project.folder / "data/clips.csv")
    assert clips["corpus"].value_counts().to_dict() == {"demo": 20, "others": 20}
    assert clips["reason"].isna().all()
    shards = {path.stem for path in (project.folder / "data/loudness").glob("*.h5")}
    assert shards == set(clips["shard"])
    assert all(shard.startswith(("demo-", "others-")) for shard in shards)
    with h5py.File(next((project.folder / "data/loudness").glob("*.h5"))) as file:
        assert next(iter(file.values()))["levels"].shape[1] == 1
    weights = torch.load(project.folder / "data/model.pt", weights_only=True)
    encoder = weights["model"]["encoders"]["highest"]
    assert (encoder["kind"], encoder["take"]) == ("highest", "first")
    assert weights["corpora"] == ["demo", "others"]


def test_new_head_loss_fusion_and_score_are_used(project: Project) -> None:
    predictions = pd.read_csv(project.folder / "data/predictions.csv").query("split == 'test'")
    assert predictions.groupby("targets")["target"].unique().map(list)["lively"] == ["openness", "extraversion"]
    scores = pd.read_csv(project.folder / "data/scores.csv").set_index(
        ["targets", "subset", "predictor", "target", "score"]
    )
    of_model = scores.loc[("lively", "all", "model", "extraversion"), "value"]
    rows = predictions[(predictions["targets"] == "lively") & (predictions["target"] == "extraversion")]
    assert of_model["half_mae"] == pytest.approx((rows["predicted"] - rows["actual"]).abs().mean() / 2, abs=2e-6)
    assert ("lively", "all", "ridge_loudness", "mean", "accuracy") in scores.index
    weights = torch.load(project.folder / "data/model.pt", weights_only=True)
    assert weights["model"]["fusion"] == "maximum"
    assert (weights["targets"]["lively"]["head"], weights["targets"]["lively"]["loss"]) == ("tanh", "fourth_power")


def test_new_analysis_and_figure_write_their_files(project: Project) -> None:
    table = pd.read_csv(project.folder / "data/spread.csv")
    assert set(table["targets"]) == {"traits", "lively"}
    assert (table["deviation"] > 0).all()
    for figure in ("spans", "lively/quantiles", "traits/quantiles"):
        assert (project.folder / f"plots/figures/{figure}.png").stat().st_size > 5000


def test_predict_prints_scores_of_new_target_group(project: Project) -> None:
    clip = next((project.folder / "data/raw/others").rglob("*.mp4"))
    output = project.run_module("tools.predict", str(clip))
    assert "extraversion (traits),agreeableness," in output
    assert "openness (lively),extraversion (lively),extraversion (traits) low," in output
