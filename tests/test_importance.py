"""Importance of regions: planted cells and moments are found, and deletion curves confirm them."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lib.analysis import importance
from lib.analysis._regions import Region, mean_steps, remove_regions
from lib.analysis.importance import deletion_table
from lib.core.targets import TargetGroup
from lib.data.batch import Sample
from lib.data.dataset import EncoderInputs
from lib.model.heads import Prediction
from lib.report import figures
from lib.report.figures import Results, read
from lib.streams.base import Steps

READINGS = {
    "look": EncoderInputs(kind="images", reads=["faces"], take="all", steps=1),
    "move": EncoderInputs(kind="volumes", reads=["flow"], take="all", steps=1),
}
GROUP = TargetGroup(columns=["red", "moved", "both", "none"], range=[0, 1], head="linear", loss="mse", weight=1)
MOUTH, BROW, LATE = (6, 3), (2, 5), 5


class Reader(nn.Module):
    """Predicts the redness of the brow, the square of the mouth's motion late in the clip, their product, and nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_inputs = READINGS

    def forward(self, inputs: dict) -> SimpleNamespace:
        red = inputs["look"]["faces"].values[:, :, 0, 4:6, 10:12].flatten(1).mean(1)
        moved = (inputs["move"]["flow"].values[:, 10:12, :, 12:14, 6:8].flatten(1) ** 2).mean(1)
        values = torch.stack([red, moved, red * moved, 0 * red + 0.5], 1)
        return SimpleNamespace(predicted={"planted": values}, predictions={"planted": Prediction(values)})


def sample(index: int) -> Sample:
    rng = np.random.default_rng(index)
    faces, flow = rng.integers(0, 256, (16, 3, 16, 16), np.uint8), rng.uniform(0, 1, (16, 2, 16, 16)).astype(np.float32)
    faces[:, 0, 4:6, 10:12], flow[10:12, :, 12:14, 6:8] = rng.integers(256), rng.uniform()
    times, there = np.arange(16, dtype=np.float32), np.ones(16, bool)
    return Sample({"look": {"faces": Steps(faces, times, there)}, "move": {"flow": Steps(flow, times, there)}}, {}, 9)


SAMPLES = [sample(index) for index in range(12)]


@pytest.fixture(scope="module")
def found() -> importance.Importance:
    return importance.measure_importance(Fabric(devices=1), Reader(), SAMPLES, 5)


@pytest.mark.parametrize("method", importance.METHODS)
def test_places_and_moments_are_found_where_they_are(found: importance.Importance, method: str) -> None:
    sizes = dict(zip(found.regions, found.sizes[method]["planted"], strict=True))
    assert len(sizes) == 2 * (64 + 8)
    red, moved = Region("faces", BROW), Region("flow", MOUTH)
    late = Region("flow", moment=LATE)
    every = [Region("faces", moment=moment) for moment in range(8)]  # brow is as red at all times
    expected = [{red, *every}, {moved, late}, {red, *every, moved, late}, set()]
    for column, rests_on in enumerate(expected):
        assert {region for region, size in sizes.items() if size[column] > 1e-3} == rests_on
    values = [one.inputs["look"]["faces"].values[0, 0, 4, 10] / 255 for one in SAMPLES]
    assert sizes[red][0] == pytest.approx(np.abs(np.array(values) - np.mean(values)).mean(), abs=0.002)
    assert sizes[every[3]][0] == pytest.approx(sizes[red][0] / 8, rel=1e-3)


def test_integrated_gradients_add_up_to_what_is_predicted(found: importance.Importance) -> None:
    assert found.missed["planted"].shape == (12, 4)
    assert np.abs(found.missed["planted"]).max() < 1e-4
    one = importance.measure_importance(Fabric(devices=1), Reader(), SAMPLES[:2], 5)
    assert one.pictures["faces"].shape == (16, 16, 3)
    both = np.concatenate([of.inputs["look"]["faces"].values for of in SAMPLES[:2]])
    assert np.abs(one.pictures["faces"].astype(float) - both.mean(0).transpose(1, 2, 0)).max() <= 0.5


def test_a_deletion_takes_what_is_called_important_first(found: importance.Importance) -> None:
    deleted = importance.delete(Fabric(devices=1), Reader(), SAMPLES, found, 5, 3, 0)
    assert {len(deleted[importance.RANDOM, share]["planted"]) for share in (0.0, 1.0)} == {1}
    whole, nothing = (deleted[importance.RANDOM, share]["planted"][0] for share in (0.0, 1.0))
    assert np.ptp(nothing, 0).max() < 1e-6  # all are the mean clip
    for method in importance.METHODS:
        first = deleted[method, importance.DELETED[1]]["planted"][0]
        assert np.array_equal(deleted[method, 0.0]["planted"][0], whole)
        assert first[:, :2] == pytest.approx(nothing[:, :2], abs=1e-6)  # one cell of 128 carried it
        by_chance = deleted[importance.RANDOM, importance.DELETED[1]]["planted"]
        assert len(by_chance) == 3
        assert np.abs(np.mean(by_chance, 0) - whole)[:, :2].mean() < 0.5 * np.abs(first - whole)[:, :2].mean()


def test_region_has_one_step_at_least_but_none_without_a_stream() -> None:
    assert Region("flow", moment=7).slices((3, 2, 8, 8)) == (slice(2, 3),)
    assert Region("faces", (7, 0)).slices((3, 3, 112, 112))[2:] == (slice(98, 112), slice(0, 14))
    none = Steps(np.zeros((0, 2, 16, 16), np.float32), np.zeros(0, np.float32), np.zeros(0, bool))
    inputs = SAMPLES[0].inputs | {"move": {"flow": none}}
    lost = remove_regions(inputs, [Region("flow", MOUTH)], mean_steps(SAMPLES))
    assert lost["move"]["flow"].values.shape == (0, 2, 16, 16)


def test_maps_and_curves_are_drawn_as_they_are(found: importance.Importance, tmp_path: Path) -> None:
    importance.write(tmp_path / "importance.h5", found)
    with h5py.File(tmp_path / "importance.h5") as file:
        written = read.read_importance(file)
    results = Results(importance=written).of("planted")
    face = figures.importance_on_the_face.draw(results, GROUP)
    assert [axes.get_title() for axes in face.axes[:4]] == list(GROUP.columns)
    assert face.axes[0].get_ylabel() == "faces\nocclusion"
    shown = [np.asarray(axes.images[-1].get_array()) for axes in face.axes[:16]]
    assert np.unravel_index(shown[0].argmax(), shown[0].shape) == BROW
    assert np.unravel_index(shown[5].argmax(), shown[5].shape) == MOUTH
    assert shown[3].max() == shown[4].max() == 0
    time = figures.importance_over_time.draw(results, GROUP).axes[1]
    lines = {line.get_label(): line.get_ydata() for line in time.lines}
    assert lines["flow, occlusion"].argmax() == LATE
    assert max(lines["faces, occlusion"]) == 0
    deleted = importance.delete(Fabric(devices=1), Reader(), SAMPLES, found, 5, 3, 0)
    actual = deleted["random", 0.0]["planted"][0].copy()
    actual[0, 0] = np.nan
    table = deletion_table({key: of["planted"] for key, of in deleted.items()}, actual, GROUP).assign(targets="planted")
    rows = table.set_index(["order", "deleted", "target"])
    for method in importance.METHODS:
        assert rows.loc[(method, 0.0, "mean"), "accuracy"] == 1
        assert (table.loc[table["target"] == "none", "accuracy"] == 1).all()
        assert rows.loc[(method, 0.125, "red"), "accuracy"] < rows.loc[("random", 0.125, "red"), "accuracy"]
    chance = rows.loc[("random", 0.125, "red")]
    assert (chance["draws"], rows.loc[("random", 1.0, "red"), "draws"]) == (3, 1)
    assert chance["lowest"] < chance["accuracy"] < chance["highest"]
    curve = figures.deletion.draw(Results(deletion=table), GROUP).axes[0].lines[0]
    assert curve.get_xdata() == pytest.approx(100 * np.array(importance.DELETED))
    assert curve.get_ydata() == pytest.approx(
        [rows.loc[("occlusion", at, "red"), "accuracy"] for at in importance.DELETED]
    )
    for module in (figures.importance_on_the_face, figures.importance_over_time, figures.deletion):
        assert "importance_clips is 0" in module.draw(Results(), GROUP).axes[0].texts[0].get_text()


def test_one_vector_a_clip_has_neither_places_nor_moments() -> None:
    one = Steps(np.ones((1, 3), np.float32), np.zeros(1, np.float32), np.ones(1, bool))
    clips = [Sample({"said": {"features": one}}, {}, index) for index in range(2)]
    network = SimpleNamespace(
        encoder_inputs={"said": EncoderInputs(kind="vectors", reads=["features"], take="all", steps=1)}
    )
    found = importance.measure_importance(Fabric(devices=1), network, clips, 2)
    assert found == importance.Importance([], {}, {}, {})
    assert importance.delete(Fabric(devices=1), network, clips, found, 2, 3, 0) == {}
    assert deletion_table({}, np.zeros((2, 4)), GROUP).empty
