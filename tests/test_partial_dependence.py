"""Partial dependence of models whose dependence on each measure is known: slopes, a step, and scikit-learn's curves."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.inspection import partial_dependence as reference
from torch import nn

from lib.analysis import _dependence, partial_dependence
from lib.analysis._dependence import QUANTILES, find_features, set_measures
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.batch import Sample
from lib.data.inputs import EncoderSettings
from lib.model.heads import HeadOutput
from lib.regression.trees import _OPTIONS
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.scoring.bootstrap import Bootstrap
from lib.streams import base
from lib.streams.base import Steps
from tests.test_lens import write_statistics

NAMES = ["pitch.mean", "pitch.std", "blink.rate"]
GROUP = TargetGroup(columns=["warm", "cold"], range=[0, 2], head="linear", loss="mse", weight=1)
SPLITS = {"training": 200, "validation": 60, "test": 40}
INPUTS = {
    "measures": EncoderSettings(kind="vectors", reads=["behaviour.statistics"], take="all", steps=1),
    "moments": EncoderSettings(kind="vectors", reads=["behaviour.steps"], take="all", steps=1),
}


class KnownNetwork(nn.Module):
    """warm: 0.1 x mean of the pitch over time + 1 if blink.rate is above 0.5, in [0, 1]. cold: blink.rate x pitch.std."""

    settings_by_encoder = INPUTS

    def forward(self, inputs: dict) -> SimpleNamespace:
        statistics = inputs["measures"]["behaviour.statistics"].values[:, 0]
        pitch = inputs["moments"]["behaviour.steps"].values[:, :, 0].mean(1)
        warm = 0.1 * pitch + (statistics[:, 2] > 0.5)
        values = torch.stack([warm, statistics[:, 1] * statistics[:, 2]], 1)
        return SimpleNamespace(predicted={"own": values}, predictions={"own": HeadOutput(values)})


class Clips:
    """Clips with random measures; two clips for each video."""

    def __init__(self, measures: pd.DataFrame, table: pd.DataFrame) -> None:
        self.measures, self.table = measures, table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        row = self.measures.loc[self.table["clip"].iloc[index]].to_numpy(np.float32)
        statistics = Steps(row[None], np.zeros(1, np.float32), np.ones(1, bool))
        steps = Steps(row[:1] + np.array([[-1], [0], [1]], np.float32), np.arange(3.0), np.ones(3, bool))
        return Sample(
            {"measures": {"behaviour.statistics": statistics}, "moments": {"behaviour.steps": steps}}, {}, index
        )

    def records(self, index: int, streams: Any) -> dict[str, Record]:
        names = {"steps": ["pitch"], "statistics": NAMES}
        return {"behaviour": Record(str(index), {}, {base.NAMES: json.dumps(names)})}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    rng, count = np.random.default_rng(0), sum(SPLITS.values())
    clips = [f"c{index:03d}.mp4" for index in range(count)]
    measures = pd.DataFrame(rng.uniform(size=(count, 3)), clips, NAMES).astype(np.float32).astype(float)
    table = pd.DataFrame({"clip": clips, "video": [f"v{index // 2}" for index in range(count)]})
    table["split"] = np.repeat([*SPLITS], [*SPLITS.values()])
    table["warm"] = 0.8 * measures["pitch.mean"].to_numpy() + (measures["blink.rate"].to_numpy() > 0.5)
    table["cold"] = 0.5 * measures["pitch.std"].to_numpy()
    tables = {split: table[table["split"] == split].reset_index(drop=True) for split in SPLITS}
    folder = tmp_path_factory.mktemp("dependence")
    write_statistics(folder, measures)
    evaluation = SimpleNamespace(tables=tables, tuning_clips=tables["validation"], scored_clips=tables["test"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial_dependence, "DATA", folder)
        yield SimpleNamespace(
            sample=lambda number: list(range(number)), settings=SimpleNamespace(dependence_clips=40), batch_size=64,
            clips=Clips(measures, tables["test"]), network=KnownNetwork(), fabric=Fabric(devices=1), seed=0,
            targets={"own": GROUP}, bootstrap=Bootstrap(200, 0), evaluation=evaluation, measures=measures,
        )  # fmt: skip


@pytest.fixture(scope="module")
def table(context: Any) -> pd.DataFrame:
    return partial_dependence.run_dependence(context)


def curve(table: pd.DataFrame, model: str, feature: str, target: str) -> pd.DataFrame:
    keys = table["model"] == model, table["feature"] == feature, table["target"] == target
    return table[np.logical_and.reduce(keys)]


def test_curves_of_the_network_are_its_slope_and_its_step(context: Any, table: pd.DataFrame) -> None:
    rows = curve(table, "model", "behaviour.pitch.mean", "warm")
    assert rows["quantile"].tolist() == list(QUANTILES)
    test = context.measures.iloc[-40:]
    np.testing.assert_allclose(rows["at"], test["pitch.mean"].quantile(QUANTILES))
    # slope 0.1, times the range of the targets; the steps have been moved, because the network does not read pitch.mean
    np.testing.assert_allclose(rows["value"], 0.2 * (rows["at"] - rows["at"].mean()), atol=1e-6)
    np.testing.assert_allclose(rows["high"], rows["low"], atol=1e-6)  # the same for all clips
    rows = curve(table, "model", "behaviour.blink.rate", "warm")
    np.testing.assert_allclose(np.ptp(rows["value"]), 2, atol=1e-6)
    assert (np.sign(rows["value"]) == np.where(rows["at"] > 0.5, 1, -1)).all()
    assert not curve(table, "model", "behaviour.pitch.mean", "cold")["value"].abs().max() > 1e-6


def test_interval_contains_the_mean_slope_over_videos(context: Any, table: pd.DataFrame) -> None:
    rows = curve(table, "model", "behaviour.blink.rate", "cold")  # a clip's slope is its pitch.std
    slope = 2 * context.measures["pitch.std"].iloc[-40:]
    shift = rows["at"] - rows["at"].mean()
    np.testing.assert_allclose(rows["value"], shift * slope.mean(), atol=1e-6)
    error = slope.groupby(np.arange(40) // 2).mean().std() / np.sqrt(20)
    last = rows.iloc[-1]
    assert (last["high"] - last["low"]) / shift.iloc[-1] == pytest.approx(2 * 1.96 * error, rel=0.25)


def test_ridge_is_linear_and_trees_find_the_step(context: Any, table: pd.DataFrame) -> None:
    rows = curve(table, "ridge_behaviour", "behaviour.pitch.std", "cold")
    slopes = np.diff(rows["value"]) / np.diff(rows["at"])
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-5)
    assert slopes[0] == pytest.approx(0.5, rel=0.05)
    rows = curve(table, "boosted_trees", "behaviour.blink.rate", "warm")
    assert np.ptp(rows["value"]) > 0.7
    jump = np.diff(rows["value"])
    assert jump.max() > 0.7 * jump.sum()
    assert rows["at"].iloc[jump.argmax()] < 0.5 < rows["at"].iloc[jump.argmax() + 1]
    assert np.ptp(curve(table, "boosted_trees", "behaviour.pitch.std", "warm")["value"]) < 0.2


def test_trees_have_the_curve_of_scikit_learn(context: Any, table: pd.DataFrame) -> None:
    tables, measures = context.evaluation.tables, context.measures
    learnt = pd.concat([tables["training"], tables["validation"]])
    model = HistGradientBoostingRegressor(**_OPTIONS).fit(measures.loc[learnt["clip"]].to_numpy(), learnt["warm"])
    rows = curve(table, "boosted_trees", "behaviour.blink.rate", "warm")
    test = measures.loc[context.clips.table["clip"]].to_numpy()
    values = reference(model, test, [2], custom_values={2: rows["at"].to_numpy()}, method="brute")["average"][0]
    np.testing.assert_allclose(rows["value"], values - values.mean(), atol=1e-9)


GROUPS = {"pitch": "head", "blink": "eyes"}


def test_groups_move_along_their_first_component() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=300)
    measures = pd.DataFrame({"pitch.mean": 5 + 2 * common, "pitch.std": -common, "blink.rate": rng.normal(size=300)})
    measures["pitch.slope"] = 0.0
    features = find_features({"behaviour": (measures, GROUPS)}, measures.index, "group")
    assert [feature.name for feature in features[:2]] == ["group behaviour head", "group behaviour eyes"]
    head = features[0]
    assert set(head.values) == {"behaviour.pitch.mean", "behaviour.pitch.std"}  # a constant does not move
    assert head.towards in head.values
    first, second = head.values["behaviour.pitch.mean"], head.values["behaviour.pitch.std"]
    np.testing.assert_allclose((first - 5) / 2, -second, atol=0.2)
    np.testing.assert_allclose(np.sort(first), 5 + 2 * np.quantile(common, QUANTILES), atol=0.2)


def test_steps_are_shifted_to_the_mean_that_is_set() -> None:
    steps = np.array([[1.0, 0], [np.nan, 1], [3, 0]])
    inputs = {"moments": {"behaviour.steps": Steps(steps, np.arange(3), np.ones(3, bool))}}
    names = {"behaviour.steps": ["pitch", "blink"]}
    values = {"behaviour.pitch.mean": 5.0, "behaviour.blink.rate": 9.0}
    changed = set_measures(inputs, names, values)["moments"]["behaviour.steps"].values
    np.testing.assert_array_equal(changed, [[4, 0], [np.nan, 1], [6, 0]])
    assert steps[0, 0] == 1
    (feature,) = [_dependence.Feature("x", "", np.zeros(7), {"behaviour.blink.rate": np.zeros(7)})]
    assert not _dependence.is_read(feature, names)


def test_dependence_is_empty_without_clips_or_measures(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = SimpleNamespace(**{**vars(context), "settings": SimpleNamespace(dependence_clips=0)})
    assert partial_dependence.run_dependence(none).empty
    monkeypatch.setattr(partial_dependence, "DATA", tmp_path)
    table = partial_dependence.run_dependence(context)
    assert table.empty
    figure = figures.FIGURES["partial_dependence"]
    assert not figure.applies(FigureInputs(partial_dependence=table))
    assert figure.describe(FigureInputs(partial_dependence=table), GROUP) == ""


def test_figure_of_dependence_has_the_largest_curves(table: pd.DataFrame) -> None:
    module, results = figures.FIGURES["partial_dependence"], FigureInputs(partial_dependence=table)
    figure = module.draw(results, GROUP)
    rows = [axes.get_ylabel().replace("\n", "") for axes in figure.axes if axes.get_ylabel()]
    assert rows == ["groupbehaviour eyes", "groupbehaviour head", *(
        f"behaviour.{name}" for name in ("blink.rate", "pitch.std", "pitch.mean")
    )]  # fmt: skip
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["model", "boosted trees", "ridge on behaviour"]
    caption = figures.make_caption(module, results, GROUP)
    assert caption.endswith(
        "Shown: the 2 of 2 groups and the 3 of 3 measures with the largest changes (40 clips)."
        " The largest is 2.000 (warm by model, behaviour.blink.rate)."
    )
    curves = figure.axes[4].lines[0]
    np.testing.assert_allclose(curves.get_ydata(), curve(table, "model", "behaviour.blink.rate", "warm")["value"])
    assert "no width" in caption  # of ridge's band, which is linear
    ridge = table[table["model"] == "ridge_behaviour"]
    np.testing.assert_allclose(ridge["low"], ridge["high"], atol=1e-9)
