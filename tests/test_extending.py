"""What docs/development.md says an addition touches: each is made in a copy of the project, and all run from end to end."""

from pathlib import Path

import h5py
import pandas as pd
import pytest
from dvc.utils.serialize import load_yaml

from tests.test_pipeline import Project

STREAM = '''
"""How loud a clip is."""

import numpy as np

from lib.core.shards import Record
from lib.streams.base import StreamSettings

INPUTS = ("audio",)
KIND = "vectors"


class Settings(StreamSettings):
    pass


def maker(settings):
    return lambda audio: Record(audio.clip, {"levels": audio.arrays["log_mel"].mean(1)[:, None], "times": audio.arrays["times"]})


def steps(record: Record, chosen: np.ndarray) -> np.ndarray:
    return record.arrays["levels"][()][chosen]
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
from lib.sources.demo import ARCHIVES, CHECKSUMS, GROUPS, problem, rows


class Settings(Section):
    pass


def bring(settings, archives, folder, videos):
    yield from demo.bring(demo.Settings(clips=20, seconds=2.0, shared=0.5, seed=1), archives, folder, videos)
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
    - stages/stream.py
    params:
    - loudness
    - parallel
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
    activation: linear
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


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("extended"))

    def edit(name: str, changes: dict[str, str]) -> None:
        path = project.folder / name
        text = path.read_text()
        for before, after in changes.items():
            assert text.count(before) == 1, f"{before!r} is {text.count(before)} times in {name}"
            text = text.replace(before, after)
        path.write_text(text)

    # a stream, a kind of encoder that reads it
    (project.folder / "lib/streams/loudness.py").write_text(STREAM.lstrip())
    (project.folder / "lib/model/encoders/highest.py").write_text(ENCODER.lstrip())
    edit("dvc.yaml", {"\n  train:\n    cmd": STAGE})
    text = (project.folder / "dvc.yaml").read_text()
    (project.folder / "dvc.yaml").write_text(text.replace("    - data/flow\n    - data/descriptors\n", "    - data/flow\n    - data/loudness\n    - data/descriptors\n"))  # fmt: skip
    edit("params.yaml", {"\nmodel:": "\n" + SECTION, "\n    flow:\n      # volumes": USED + "\n      # volumes"})
    edit("params.yaml", {"use: [faces, flow]": "use: [faces, loudness]", "{faces: 0.001,": "{loudness: 0.01, faces: 0.001,"})
    # a source
    (project.folder / "lib/sources/others.py").write_text(SOURCE.lstrip())
    edit("params.yaml", {"sources: [demo]": "sources: [demo, others]"})
    # a target group
    edit("params.yaml", {"\ntargets:": GROUP, "targets: [traits]": "targets: [traits, lively]"})
    # a fusion, a loss, a score, a figure
    edit("lib/model/fusions.py", {
        '    "late_average": LateAverage,\n': '    "late_average": LateAverage,\n    "highest": Highest,\n',
        "\n\nFUSIONS:": "\n\nclass Highest(Concat):\n    def forward(self, tokens, attend=False):\n"
        "        return torch.cat([tokens[name].values.amax(1) for name in self.names], 1)[:, None], {}\n\n\nFUSIONS:",
    })  # fmt: skip
    edit("params.yaml", {"fusion: cross_attention\n": "fusion: highest\n"})
    edit("lib/training/losses.py", {
        '"kl": kl}': '"kl": kl, "fourth_power": fourth_power}',
        "\n\nLOSSES:": "\n\ndef fourth_power(predicted, actual, weights):\n"
        "    return _mean(weights * (predicted - actual.nan_to_num()) ** 4, actual.isfinite())\n\n\nLOSSES:",
    })  # fmt: skip
    edit("lib/scoring/scores.py", {'            "mae": mae,\n': '            "mae": mae,\n            "half_mae": mae / 2,\n'})
    edit("lib/report/figures.py", {"FIGURES: ": FIGURE + "FIGURES: ", '    "learning_curve": ': '    "names": names,\n    "learning_curve": '})
    for command in (["git", "add", "-A"], ["git", "commit", "-qm", "extended"]):
        assert project.run(*command).returncode == 0
    project.dvc("repro")
    return project
