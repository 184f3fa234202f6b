"""What docs/development.md says an addition touches: each is made in a copy of the project, and all run from end to end."""

import sys

import h5py
import pandas as pd
import pytest
import torch

from tests.test_pipeline import Project

STREAM = '''
"""How loud a clip is."""

import numpy as np

from lib.core.shards import Record
from lib.streams.base import Stream, StreamSettings


class Settings(StreamSettings):
    pass


def make_extractor(settings):
    def make(audio):
        arrays = audio.arrays
        return Record(audio.clip, {"levels": arrays["log_mel"].mean(1)[:, None], "times": arrays["times"]})

    return make


def read_steps(record: Record, chosen: np.ndarray) -> np.ndarray:
    return record.arrays["levels"][()][chosen]


STREAM = Stream(
    inputs=("audio",), kind="vectors", settings=Settings, make_extractor=make_extractor, read_steps=read_steps
)
'''
ENCODER = '''
"""The highest value of a stream of vectors, one token a clip."""

from typing import Literal

from torch import nn

from lib.data.dataset import Reading
from lib.model.tokens import Tokens


class Settings(Reading):
    kind: Literal["highest"]


class Encoder(nn.Module):
    def __init__(self, settings, shapes, key):
        super().__init__()
        (self._stream,), self.output_dim = settings.reads, shapes[0][0]

    def forward(self, inputs):
        steps = inputs[self._stream]
        values = steps.values.masked_fill(~steps.present[..., None], -1e9).amax(1, keepdim=True)
        return Tokens(values, steps.times[:, :1], steps.present.any(1, keepdim=True), (1, 1))
'''
SOURCE = '''
"""A second demo, of other people."""

from lib.core.parameters import Section
from lib.sources import demo
from lib.sources.demo import ARCHIVES, CHECKSUMS, GROUPS, problem
from lib.sources.fiv2 import columns, rows


class Settings(Section):
    pass


def bring(settings, archives, folder, videos):
    yield from demo.bring(demo.Settings(clips=20, seconds=2.0, shared=0.5, seed=1, emotions=0.0), archives, folder, videos)
'''
STAGE = """
  loudness:
    cmd: python -m stages.stream loudness
    deps:
    - data/audio
    - lib/core
    - lib/streams/base.py
    - lib/streams/build.py
    - lib/streams/loudness.py
    - stages/__init__.py
    - stages/stream.py
    params:
    - loudness
    - parallel
    - download.allow_missing
    outs:
    - data/loudness
    metrics:
    - metrics/loudness.json:
        cache: false
  train:
    cmd"""
GROUP = """
targets:
  lively:
    columns: [openness, extraversion]
    range: [0, 1]
    head: linear
    loss: fourth_power
    weight: 2.0"""
SECTION = """loudness:
  enabled: true

model:"""
USED = """
    loudness:
      kind: highest
      reads: [loudness]
      take: all
      steps: 1
    flow:"""


FUSION = """

class Highest(Concat):
    def forward(self, tokens, attend=False):
        return torch.cat([tokens[name].values.amax(1) for name in self.names], 1)[:, None], {}


FUSIONS:"""
LOSS = """

def fourth_power(predicted, actual, weights):
    return _mean(weights * (predicted.mean - actual.nan_to_num()) ** 4, actual.isfinite())


LOSSES:"""
FIGURE = """
from lib.report.figures._base import make_figure

SECTION, ORDER = "results", 45
CAPTION = "How far apart the predictions are."


def draw(results):
    figure, axes = make_figure(4, 3)
    axes.bar(*zip(*results.predictions.groupby("target")["predicted"].std().items()))
    return figure
"""
FOLDERS = "    - data/flow\n    - data/descriptors\n"
EDITS: list[tuple[str, str, str]] = [
    ("dvc.yaml", "\n  train:\n    cmd", STAGE),
    ("dvc.yaml", FOLDERS, FOLDERS + "    - data/loudness\n"),
    ("params.yaml", "\nmodel:", "\n" + SECTION),
    ("params.yaml", "\n    flow:\n      # volumes", USED + "\n      # volumes"),
    ("params.yaml", "use: [faces, flow]", "use: [faces, loudness]"),
    ("params.yaml", "learning_rate: {default: 0.001}", "learning_rate: {default: 0.001, loudness: 0.01}"),
    ("params.yaml", "sources: [demo]", "sources: [demo, others]"),
    ("params.yaml", "\ntargets:", GROUP),
    ("params.yaml", "targets: [traits]", "targets: [traits, lively]"),
    ("params.yaml", "fusion: cross_attention\n", "fusion: highest\n"),
    ("lib/model/fusions.py", "\n\nFUSIONS:", FUSION),
    ("lib/model/fusions.py", '"concat": Concat,', '"concat": Concat, "highest": Highest,'),
    ("lib/training/losses.py", "\n\nLOSSES:", LOSS),
    ("lib/training/losses.py", '"bce": bce}', '"bce": bce, "fourth_power": fourth_power}'),
    ("lib/model/heads.py", 'ON_MEANS = ("mse",', 'ON_MEANS = ("fourth_power", "mse",'),
    ("lib/scoring/scores.py", '"mae": mae,', '"mae": mae, "half_mae": mae / 2,'),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("extended"))
    (project.folder / "lib/streams/loudness.py").write_text(STREAM.lstrip())
    (project.folder / "lib/model/encoders/highest.py").write_text(ENCODER.lstrip())
    (project.folder / "lib/sources/others.py").write_text(SOURCE.lstrip())
    (project.folder / "lib/report/figures/spans.py").write_text(FIGURE.lstrip())
    for name, before, after in EDITS:
        path = project.folder / name
        assert before in path.read_text(), f"{before!r} is not in {name}"
        path.write_text(path.read_text().replace(before, after))
    for command in (["git", "add", "-A"], ["git", "commit", "-qm", "extended"]):
        assert project.run(*command).returncode == 0
    project.dvc("repro")
    return project


def test_a_stream_an_encoder_and_a_source_of_one_file_each(project: Project) -> None:
    clips = pd.read_csv(project.folder / "data/clips.csv")
    assert clips["corpus"].value_counts().to_dict() == {"demo": 20, "others": 20}
    assert clips["reason"].isna().all()
    shards = {path.stem for path in (project.folder / "data/loudness").glob("*.h5")}
    assert shards == set(clips["shard"])
    assert all(shard.startswith(("demo-", "others-")) for shard in shards)
    with h5py.File(next((project.folder / "data/loudness").glob("*.h5"))) as file:
        assert next(iter(file.values()))["levels"].shape[1] == 1
    weights = torch.load(project.folder / "data/model.pt", weights_only=True)
    assert weights["model"]["encoders"]["loudness"]["kind"] == "highest"
    assert weights["corpora"] == ["demo", "others"]


def test_a_target_group_a_loss_a_fusion_a_score_and_a_figure(project: Project) -> None:
    predictions = pd.read_csv(project.folder / "data/predictions.csv").query("split == 'test'")
    assert predictions.groupby("targets")["target"].unique().map(list)["lively"] == ["openness", "extraversion"]
    scores = pd.read_csv(project.folder / "data/scores.csv").set_index(
        ["targets", "subset", "predictor", "target", "score"]
    )
    of_model = scores.loc[("lively", "all", "model", "extraversion"), "value"]
    rows = predictions[(predictions["targets"] == "lively") & (predictions["target"] == "extraversion")]
    assert of_model["half_mae"] == pytest.approx((rows["predicted"] - rows["actual"]).abs().mean() / 2, abs=2e-6)
    assert ("lively", "all", "ridge_loudness", "mean", "accuracy") in scores.index
    assert torch.load(project.folder / "data/model.pt", weights_only=True)["model"]["fusion"] == "highest"
    for figure in ("spans", "lively/quantiles", "traits/quantiles"):
        assert (project.folder / f"plots/figures/{figure}.png").stat().st_size > 5000


def test_what_was_added_is_served(project: Project) -> None:
    clip = next((project.folder / "data/raw/others").rglob("*.mp4"))
    found = project.run(sys.executable, "-m", "tools.predict", str(clip))
    assert found.returncode == 0, found.stdout
    assert "extraversion (traits),agreeableness," in found.stdout
    assert "openness (lively),extraversion (lively),extraversion (traits) low," in found.stdout
