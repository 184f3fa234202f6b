"""Control experiments with swapped, shuffled and frozen streams, and attention compared with shuffled weights."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy import stats
from torch import nn

from lib.analysis import _inputs, attention, controls
from lib.core.targets import TargetGroup
from lib.data.batch import Sample
from lib.model.heads import HeadOutput
from lib.report import figures
from lib.report.figures import FigureInputs, read
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.tables import control_table
from lib.streams.base import Steps
from tests.report_data import WARMTH
from tests.small_network import FACE_AND_FLOW_INPUTS

COUNT = 40


class PlantedNetwork(nn.Module):
    """Predicts the planted values: brightness of the faces, size of the motion, and whether the motion is early."""

    def __init__(self) -> None:
        super().__init__()
        self.settings_by_encoder = FACE_AND_FLOW_INPUTS

    def forward(self, inputs: dict) -> SimpleNamespace:
        look = inputs["look"]["faces"].values.flatten(1).mean(1)
        flow = inputs["move"]["flow"].values.abs().flatten(2).mean(2)
        early = flow[:, : flow.shape[1] // 2].mean(1) - flow[:, flow.shape[1] // 2 :].mean(1)
        values = torch.stack([look, flow.mean(1), early], 1)
        return SimpleNamespace(predicted={"planted": values}, predictions={"planted": HeadOutput(values)})


def make_sample(index: int) -> Sample:
    rng = np.random.default_rng(index)
    faces = np.full((5, 3, 4, 4), rng.integers(0, 256), np.uint8)
    flow = np.ones((4, 2, 4, 4), np.float32) * (rng.uniform() * np.array([1, 1, 0.1, 0.1]))[:, None, None, None]
    flow = flow if rng.integers(2) else flow[::-1].copy()
    inputs = {
        "look": {"faces": Steps(faces, np.arange(5, dtype=np.float32), np.ones(5, bool))},
        "move": {"flow": Steps(flow, np.arange(4, dtype=np.float32), np.ones(4, bool))},
    }
    return Sample(inputs, {}, index)


@pytest.fixture(scope="module")
def predicted() -> dict[str, list[np.ndarray]]:
    clips = [make_sample(index) for index in range(COUNT)]
    results = controls.predict(Fabric(devices=1), PlantedNetwork(), clips, range(COUNT), 16, 3, 0)
    return {name: groups["planted"] for name, groups in results.items()}


def test_controls_cost_accuracy_where_signals_are_planted(predicted: dict[str, list[np.ndarray]]) -> None:
    group = TargetGroup(columns=["bright", "moved", "early"], range=[0, 1], head="linear", loss="mse", weight=1)
    actual = predicted["intact"][0]
    videos = np.arange(COUNT) // 2
    table = control_table(predicted, controls.INTACT, actual, videos, group, Bootstrap(500, 0))
    assert list(dict.fromkeys(table["control"])) == [
        "intact", "another clip's faces", "faces in another order", "another clip's flow", "no motion",
        "flow in another order",
    ]  # fmt: skip
    assert table.set_index("control")["repeats"].groupby(level=0).first().to_dict() == {
        "intact": 1, "another clip's faces": 3, "faces in another order": 3, "another clip's flow": 3, "no motion": 1,
        "flow in another order": 3,
    }  # fmt: skip
    rows = table.set_index(["control", "target"])
    needs = {
        "bright": {"another clip's faces"},
        "moved": {"another clip's flow", "no motion"},
        "early": {"another clip's flow", "no motion", "flow in another order"},
    }
    for target, needed in needs.items():
        for control in set(predicted) - {"intact"}:
            row = rows.loc[(control, target)]
            if control in needed:
                assert row["loss"] > 0.05
                assert row["low"] > 0
                assert row["p_holm"] < 0.1
            else:
                assert row["loss"] == pytest.approx(0, abs=1e-6)
    assert rows.loc[("no motion", "moved"), "loss"] == pytest.approx(actual[:, 1].mean(), abs=1e-6)
    few_videos = control_table(predicted, controls.INTACT, actual, np.arange(COUNT) % 9, group, Bootstrap(500, 0))
    assert few_videos[["low", "high", "p", "p_holm"]].isna().all().all()
    figure = figures.controls.draw(FigureInputs(controls=table), group)
    assert [axes.get_title() for axes in figure.axes] == ["mean", "bright", "moved", "early"]
    assert figure.axes[2].lines[0].get_xdata()[3] == pytest.approx(rows.loc[("no motion", "moved"), "loss"])
    empty = figures.controls.draw(FigureInputs(controls=table[:0]), group)
    assert "control_clips is 0" in empty.axes[0].texts[0].get_text()


def test_swapped_streams_are_permuted_without_fixed_points(predicted: dict[str, list[np.ndarray]]) -> None:
    intact = predicted["intact"][0][:, 0]
    for swapped in predicted["another clip's faces"]:
        assert sorted(swapped[:, 0]) == sorted(intact)
        assert (swapped[:, 0] != intact).mean() > 0.9  # brightnesses may be equal
    first, second, _ = predicted["another clip's faces"]
    assert not np.array_equal(first, second)


def test_swap_takes_steps_at_the_same_relative_times() -> None:
    def make_steps(count: int) -> Steps:
        return Steps(np.arange(count), np.arange(count) / 5, np.ones(count, bool))

    inputs = {
        "both": {"flow": make_steps(4), "faces": make_steps(4)},
        "one": {"flow": make_steps(4)},
        "none": {"flow": make_steps(0)},
    }
    other = {
        "both": {"flow": make_steps(8), "faces": make_steps(8)},
        "one": {"flow": make_steps(8)},
        "none": {"flow": make_steps(8)},
    }
    swapped = _inputs.swap_stream(inputs, other, "flow")
    assert swapped["both"]["flow"].values.tolist() == [0, 2, 4, 6]
    assert swapped["both"]["flow"].times.tolist() == [0, 0.2, 0.4, 0.6]
    assert swapped["both"]["faces"] is inputs["both"]["faces"]
    assert swapped["one"]["flow"] is other["one"]["flow"]
    assert len(swapped["none"]["flow"].times) == 0
    assert inputs["both"]["flow"].values.tolist() == [0, 1, 2, 3]
    shuffled = _inputs.shuffle_steps(other, "flow", np.random.default_rng(0))
    assert sorted(shuffled["one"]["flow"].values) == list(range(8))
    assert shuffled["one"]["flow"].values.tolist() == shuffled["both"]["flow"].values.tolist() != list(range(8))
    assert shuffled["one"]["flow"].times.tolist() == other["one"]["flow"].times.tolist()


def test_attention_is_compared_with_shuffled_weights() -> None:
    layers = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    shuffled = attention.shuffle_weights(layers, 0)
    for before, after in zip(layers.parameters(), shuffled.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
    assert not torch.equal(layers[0].weight, shuffled[0].weight)
    weights = torch.tensor([[[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], [[0.2, 0.2, 0.6], [0.0, 0.0, 1.0]]]])
    weights_of = {("b", "a"): weights, ("c", "a"): torch.full((1, 2, 5, 3), 1 / 3)}
    expected = (3 * weights[0].mean(1) + 1) / 2
    assert attention.attention_to(weights_of, "a") == pytest.approx(expected.numpy())
    assert attention.attention_to(weights_of, "b") is None


def test_attention_figures_show_maps_and_matrix(tmp_path: Path) -> None:
    heads = np.array([[[0.5, 1.5], [1, 1]], [[1.5, 0.5], [1, 1.0]]])
    with h5py.File(tmp_path / "mean.h5", "w") as file:
        file.attrs["clips"] = 7
        file["look/heads"], file["look/shuffled"] = heads, heads[::-1]
        file["look/correlations"] = np.array([0.1, 0.2, 0.6])
        file["look/picture"] = np.full((6, 6, 3), 9, np.uint8)
        read_back = read.read_mean_attention(file)
    figure = figures.mean_attention.draw(FigureInputs(mean_attention=read_back))
    mean, first, second, shuffled = figure.axes[:4]
    assert np.asarray(mean.images[-1].get_array()).tolist() == [[1, 1], [1, 1]]
    assert np.asarray(second.images[-1].get_array()).tolist() == heads[1].tolist()
    assert np.asarray(first.images[-1].get_array()).tolist() == heads[0].tolist()
    assert mean.get_ylabel() == "look: 2 × 2 cells"
    assert shuffled.get_title() == "shuffled weights"
    assert figure.get_supxlabel().startswith("look: rank correlation 0.20 (5 to 95 % of clips: ")
    assert "o attention" in figures.mean_attention.draw(FigureInputs()).axes[0].texts[0].get_text()
    # two times of one place attend to three times of two places
    weights = stats.dirichlet(np.ones(6)).rvs((1, 2), np.random.default_rng(0)).reshape(1, 2, 6)
    times = {"voice": np.array([0.0, 1]), "look": np.array([0.0, 1, 2])}
    times["dot"] = np.array([0.5])  # all tokens attend to its only time
    attention_weights = {("look", "dot"): np.ones((1, 6, 1)), ("voice", "look"): weights}
    clip = read.ClipAttention(attention_weights, times, {"voice": (1, 1), "look": (1, 2), "dot": (1, 1)}, {})
    image = figures.attention_matrix.draw(FigureInputs(attention={"c": clip})).axes[1].images[0]
    assert np.asarray(image.get_array()) == pytest.approx(100 * weights[0].reshape(2, 3, 2).sum(2))
    assert image.get_extent() == [-0.5, 2.5, 1.5, -0.5]
    assert figures.controls.draw(FigureInputs(), WARMTH).axes[0].texts
