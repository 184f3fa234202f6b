"""Permutation importance of named measures: what is swapped, and that it finds the measure that a network reads."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lib.analysis import feature_importance
from lib.analysis._inputs import choose_others, swap_columns
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.batch import Sample
from lib.data.inputs import EncoderSettings
from lib.model.heads import HeadOutput
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.scoring.bootstrap import Bootstrap
from lib.streams import base
from lib.streams.base import Steps

COUNT = 40
GROUP = TargetGroup(columns=["warm", "cold"], range=[0, 1], head="linear", loss="mse", weight=1)
NAMES = {"steps": ["pitch", "yaw", "blink"], "statistics": ["pitch.mean", "yaw.std", "blink.rate"]}
INPUTS = {
    "measures": EncoderSettings(kind="vectors", reads=["behaviour.statistics"], take="all", steps=1),
    "moments": EncoderSettings(kind="vectors", reads=["behaviour.steps"], take="all", steps=1),
}


class BlinkNetwork(nn.Module):
    """Predicts the first target from the rate of blinks, the second from the pitch over time."""

    def __init__(self) -> None:
        super().__init__()
        self.settings_by_encoder = INPUTS

    def forward(self, inputs: dict) -> SimpleNamespace:
        blinks = inputs["measures"]["behaviour.statistics"].values[:, 0, 2]
        pitch = inputs["moments"]["behaviour.steps"].values[:, :, 0].mean(1)
        values = torch.stack([blinks, pitch], 1)
        return SimpleNamespace(predicted={"own": values}, predictions={"own": HeadOutput(values)})


class Clips:
    """Clips with random measures, whose labels the network predicts exactly."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.statistics = rng.uniform(size=(COUNT, 1, 3)).astype(np.float32)
        self.steps = np.repeat(rng.uniform(size=(COUNT, 1, 3)), 6, 1).astype(np.float32)
        self.table = pd.DataFrame({"video": np.arange(COUNT) // 2})

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Sample:
        moments = Steps(self.steps[index], np.arange(6, dtype=np.float32), np.ones(6, bool))
        measures = Steps(self.statistics[index], np.zeros(1, np.float32), np.ones(1, bool))
        return Sample(
            {"measures": {"behaviour.statistics": measures}, "moments": {"behaviour.steps": moments}}, {}, index
        )

    def records(self, index: int, streams: Any) -> dict[str, Record]:
        return {"behaviour": Record(str(index), {}, {base.NAMES: json.dumps(NAMES)})}


def make_context(clips: Clips, count: int = COUNT, inputs: Any = INPUTS) -> Any:
    network = BlinkNetwork()
    network.settings_by_encoder = inputs
    actual = np.stack([clips.statistics[:, 0, 2], clips.steps[:, 0, 0]], 1).astype(float)
    return SimpleNamespace(
        sample=lambda number: list(range(number)),
        settings=SimpleNamespace(feature_clips=count, control_repeats=3),
        clips=clips,
        network=network,
        fabric=Fabric(devices=1),
        batch_size=16,
        seed=0,
        targets={"own": GROUP},
        actual=lambda sample, group: actual[sample],
        bootstrap=Bootstrap(300, 0),
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return feature_importance.run_importance(make_context(Clips()))


def test_importance_finds_the_measure_that_the_network_reads(table: pd.DataFrame) -> None:
    rows = table.set_index(["control", "target"])
    assert {name for name, _ in rows.index} == {
        "intact", "behaviour.pitch", "behaviour.yaw", "behaviour.blink", "group behaviour head", "group behaviour eyes",
    }  # fmt: skip
    for target, needed in (
        ("warm", {"behaviour.blink", "group behaviour eyes"}),
        ("cold", {"behaviour.pitch", "group behaviour head"}),
    ):
        for name in {name for name, _ in rows.index} - {"intact"}:
            row = rows.loc[(name, target)]
            if name in needed:
                assert row["low"] > 0.1
            else:
                assert row["loss"] == pytest.approx(0, abs=1e-6)
    assert set(table["repeats"]) == {1, 3}


def test_importance_is_empty_without_clips_or_measures() -> None:
    clips = Clips()
    assert feature_importance.run_importance(make_context(clips, 0)).empty
    inputs = {"audio": EncoderSettings(kind="vectors", reads=["audio.mfcc"], take="all", steps=1)}
    assert feature_importance.run_importance(make_context(clips, inputs=inputs)).empty


def test_columns_of_a_measure_are_in_steps_and_statistics() -> None:
    columns = feature_importance.find_columns(feature_importance.find_named_inputs(make_context(Clips()), [0]))
    assert columns["behaviour.blink"] == {"behaviour.statistics": [2], "behaviour.steps": [2]}
    assert columns["group behaviour head"] == {"behaviour.statistics": [0, 1], "behaviour.steps": [0, 1]}


def test_swapped_columns_come_from_the_same_relative_times() -> None:
    steps, other = np.zeros((4, 2)), np.array([[1.0, 5], [2, 6]])
    inputs, others = (
        {"moments": {"behaviour.steps": Steps(values, np.arange(len(values)), np.ones(len(values), bool))}}
        for values in (steps, other)
    )
    swapped = swap_columns(inputs, others, {"behaviour.steps": np.array([1])})
    assert swapped["moments"]["behaviour.steps"].values.tolist() == [[0, 5], [0, 5], [0, 6], [0, 6]]
    assert not steps.any()
    others = choose_others(10, np.random.default_rng(0))
    assert sorted(others) == list(range(10))
    assert (others != np.arange(10)).all()


def test_figure_of_importance_shows_groups_first(table: pd.DataFrame) -> None:
    figure = figures.FIGURES["feature_importance"]
    results = FigureInputs(feature_importance=table)
    names = [label.get_text() for label in figure.draw(results, GROUP).axes[0].get_yticklabels()]
    assert all(name.startswith("group ") for name in names[:2])
    assert len(names) == 5
    assert "behaviour." in figure.describe(results, GROUP)
    assert not figure.applies(FigureInputs(feature_importance=table[:0]))
    assert figure.describe(FigureInputs(feature_importance=table[:0]), GROUP) == ""
