"""Features of clips: recorded from the network, probed by linear regression, and projected to a plane."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.analysis import _features as features
from lib.analysis import embedding_map
from lib.analysis.probes import probe_table
from lib.core.targets import TargetGroup
from lib.model.fusions import LateAverage
from lib.model.tokens import Tokens
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.scoring import maps
from lib.scoring.bootstrap import Bootstrap

GROUP = TargetGroup(columns=["signal", "noise"], range=[0, 1], head="linear", loss="mse", weight=1)


def test_recorded_features_are_means_of_present_tokens() -> None:
    network = SimpleNamespace(fusion=LateAverage({"look": 2, "move": 2}))
    values = torch.arange(12.0).reshape(2, 3, 2)
    present = torch.tensor([[True, True, False], [True, False, False]])
    tokens = {"look": Tokens(values, torch.zeros(2, 3), present, (1, 1)),
              "move": Tokens(values[:, :1], torch.zeros(2, 1), present[:, :1], (1, 1))}  # fmt: skip
    with features.record_features(network) as recorded:
        for _ in range(2):
            network.fusion(tokens)
    network.fusion(tokens)  # no longer recorded
    assert {name: len(batches) for name, batches in recorded.items()} == {"look": 2, "move": 2, features.FUSED: 2}
    assert recorded["look"][0].tolist() == [[1, 2], [6, 7]]
    assert recorded[features.FUSED][1].tolist() == [[1, 2, 0, 1], [6, 7, 6, 7]]
    assert isinstance(network.fusion, nn.Module)


@pytest.fixture(scope="module")
def clips() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    rng = np.random.default_rng(0)
    count = 240
    video = np.repeat(np.arange(count // 4), 4)
    table = pd.DataFrame({"clip": [f"c{index:03d}" for index in range(count)], "video": video.astype(str)})
    table["split"] = np.repeat(["training", "validation", "test"], count // 3)
    table[["signal", "noise"]] = rng.uniform(0, 1, (count, 2))
    identity = rng.normal(0, 1, (count // 4, 8))[video]
    vectors = {
        "reader": np.column_stack([table["signal"] + rng.normal(0, 0.03, count), rng.normal(0, 1, (count, 3))]),
        "person": identity + rng.normal(0, 0.05, (count, 8)),
    }
    return table, {name: pd.DataFrame(values, index=table["clip"]) for name, values in vectors.items()}


def test_probe_finds_planted_information_only(clips: tuple[pd.DataFrame, dict[str, pd.DataFrame]]) -> None:
    table, vectors = clips
    split = {name: rows.reset_index(drop=True) for name, rows in table.groupby("split")}
    probes = probe_table(split["training"], split["test"], split["validation"], GROUP, vectors, Bootstrap(200, 0))
    rows = probes.set_index(["features", "target"])
    assert rows.loc[("reader", "signal"), "r2"] > 0.95
    assert rows.loc[("reader", "signal"), "low"] > 0.9
    for name, target in (("reader", "noise"), ("person", "signal"), ("person", "noise")):
        assert rows.loc[(name, target), "r2"] < 0.1
    assert rows.loc[("person", "mean"), "width"] == 8
    assert probe_table(
        split["training"], split["test"], split["validation"][:0], GROUP, vectors, Bootstrap(200, 0)
    ).empty
    model_scores = (
        probes[probes["features"] == "reader"].rename(columns={"r2": "value"}).assign(predictor="model", score="r2")
    )
    figure = figures.probes.draw(FigureInputs(probes=probes, scores=model_scores.assign(subset="all")), GROUP)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["reader (4)", "person (8)", "the model"]
    assert figure.axes[1].lines[0].get_xdata()[0] == rows.loc[("reader", "signal"), "r2"]
    assert "no probe" in figures.probes.draw(FigureInputs(probes=probes[:0]), GROUP).axes[0].texts[0].get_text().lower()


@pytest.mark.slow
def test_plane_keeps_neighbours_and_colours_videos(
    clips: tuple[pd.DataFrame, dict[str, pd.DataFrame]],
) -> None:
    table, vectors = clips
    videos = table["video"].to_numpy()
    plane = maps.embed_in_plane(vectors["person"].to_numpy(), 0)
    assert np.array_equal(plane, maps.embed_in_plane(vectors["person"].to_numpy(), 0))
    assert maps.measure_same_video_rates(plane, videos)[0] > 0.9
    rate, expected_rate = maps.measure_same_video_rates(vectors["person"].to_numpy(), videos)
    assert rate > 0.95
    assert expected_rate == pytest.approx(3 / 239)
    assert maps.measure_same_video_rates(vectors["reader"].to_numpy(), videos)[0] < 0.1
    assert np.isnan(maps.measure_same_video_rates(vectors["reader"].to_numpy(), np.arange(240))).all()
    assert np.isnan(maps.embed_in_plane(np.zeros((3, 2)), 0)).all()
    map_table = table[["clip", "video", "split"]].assign(features="person", x=plane[:, 0], y=plane[:, 1])
    map_table = map_table.assign(same_video=rate, same_video_by_chance=expected_rate)
    figure = figures.features_map.draw(FigureInputs(map=map_table, clips=table), GROUP)
    signal, _, video = figure.axes[:3]
    assert np.asarray(signal.collections[0].get_array()) == pytest.approx(table["signal"].to_numpy())
    colours = [tuple(colour) for colour in video.collections[0].get_facecolors()]
    assert sorted(map(colours.count, set(colours))) == [4] * 6 + [216]
    assert video.get_xlabel().startswith("same video nearest:\n")
    small_map = embedding_map.project_to_plane(vectors, table, 10, 0)
    assert small_map["features"].value_counts().to_dict() == {"reader": 10, "person": 10}
    assert small_map["video"].value_counts().tolist() == [
        8,
        8,
        4,
    ]  # two complete videos and a part of a third, for both features
    assert embedding_map.project_to_plane(vectors, table, 0, 0).empty
    assert "map_clips is 0" in figures.features_map.draw(FigureInputs(), GROUP).axes[0].texts[0].get_text()
