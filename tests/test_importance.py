"""Importance of regions: it finds planted cells and times, and deletion curves confirm them."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lib.analysis import importance
from lib.analysis._regions import Region, list_regions, mean_steps, remove_regions
from lib.analysis.importance import deletion_table
from lib.core.targets import TargetGroup
from lib.data.batch import Sample
from lib.data.inputs import EncoderSettings
from lib.model.heads import HeadOutput
from lib.report import figures
from lib.report.figures import FigureInputs, read
from lib.streams.base import Steps
from tests.small_network import FACE_AND_FLOW_INPUTS

GROUP = TargetGroup(columns=["red", "moved", "both", "none"], range=[0, 1], head="linear", loss="mse", weight=1)
MOUTH, BROW, LATE = (6, 3), (2, 5), 5


class PlantedNetwork(nn.Module):
    """Predicts the redness of the brow, the squared motion of the mouth late in the clip, their product, and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.settings_by_encoder = FACE_AND_FLOW_INPUTS

    def forward(self, inputs: dict) -> SimpleNamespace:
        red = inputs["look"]["faces"].values[:, :, 0, 4:6, 10:12].flatten(1).mean(1)
        moved = (inputs["move"]["flow"].values[:, 10:12, :, 12:14, 6:8].flatten(1) ** 2).mean(1)
        values = torch.stack([red, moved, red * moved, 0 * red + 0.5], 1)
        return SimpleNamespace(predicted={"planted": values}, predictions={"planted": HeadOutput(values)})


def make_sample(index: int) -> Sample:
    rng = np.random.default_rng(index)
    faces, flow = rng.integers(0, 256, (16, 3, 16, 16), np.uint8), rng.uniform(0, 1, (16, 2, 16, 16)).astype(np.float32)
    faces[:, 0, 4:6, 10:12], flow[10:12, :, 12:14, 6:8] = rng.integers(256), rng.uniform()
    times, present = np.arange(16, dtype=np.float32), np.ones(16, bool)
    return Sample(
        {"look": {"faces": Steps(faces, times, present)}, "move": {"flow": Steps(flow, times, present)}}, {}, 9
    )


SAMPLES = [make_sample(index) for index in range(12)]


FRACTIONS, DRAWS = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0), importance.RandomOrders(3, 0)


def measure(samples: list[Sample], grid: int = 8, moments: int = 8) -> importance.RegionImportance:
    network = PlantedNetwork()
    regions = list(list_regions(network, samples, grid, moments))
    return importance.measure_importance(Fabric(devices=1), network, samples, regions, 5)


@pytest.fixture(scope="module")
def measured() -> importance.RegionImportance:
    return measure(SAMPLES)


@pytest.mark.parametrize("method", importance.METHODS)
def test_importance_finds_planted_regions_and_times(measured: importance.RegionImportance, method: str) -> None:
    sizes = dict(zip(measured.regions, measured.sizes[method]["planted"], strict=True))
    assert len(sizes) == 2 * (64 + 8)
    red, moved = Region("faces", BROW), Region("flow", MOUTH)
    late = Region("flow", moment=LATE)
    moments = [Region("faces", moment=moment) for moment in range(8)]  # the brow is equally red at all times
    expected = [{red, *moments}, {moved, late}, {red, *moments, moved, late}, set()]
    for column, important in enumerate(expected):
        assert {region for region, size in sizes.items() if size[column] > 1e-3} == important
    values = [clip.inputs["look"]["faces"].values[0, 0, 4, 10] / 255 for clip in SAMPLES]
    assert sizes[red][0] == pytest.approx(np.abs(np.array(values) - np.mean(values)).mean(), abs=0.002)
    assert sizes[moments[3]][0] == pytest.approx(sizes[red][0] / 8, rel=1e-3)


def test_integrated_gradients_add_up_to_the_prediction(measured: importance.RegionImportance) -> None:
    assert measured.missed["planted"].shape == (12, 4)
    assert np.abs(measured.missed["planted"]).max() < 1e-4
    of_two = measure(SAMPLES[:2])
    assert of_two.pictures["faces"].shape == (16, 16, 3)
    frames = np.concatenate([clip.inputs["look"]["faces"].values for clip in SAMPLES[:2]])
    assert np.abs(of_two.pictures["faces"].astype(float) - frames.mean(0).transpose(1, 2, 0)).max() <= 0.5


def test_importance_grid_sets_the_numbers_of_cells_and_moments(tmp_path: Path) -> None:
    coarse = measure(SAMPLES[:3], grid=4, moments=2)
    assert len(coarse.regions) == 2 * (16 + 2)
    sizes = dict(zip(coarse.regions, coarse.sizes["occlusion"]["planted"], strict=True))
    cells = {
        region.cell for region, size in sizes.items() if region.stream == "flow" and region.cell and size[1] > 1e-3
    }
    assert cells == {(MOUTH[0] // 2, MOUTH[1] // 2)}
    importance.write(tmp_path / "importance.h5", coarse)
    with h5py.File(tmp_path / "importance.h5") as file:
        assert file["sizes/planted/occlusion/flow/cells"].shape == (4, 4, 4)
        assert file["sizes/planted/occlusion/flow/moments"].shape == (2, 4)


def test_deletion_removes_important_regions_first(measured: importance.RegionImportance) -> None:
    deleted = importance.delete(Fabric(devices=1), PlantedNetwork(), SAMPLES, measured, FRACTIONS, DRAWS, 5)
    assert {len(deleted[importance.RANDOM, share]["planted"]) for share in (0.0, 1.0)} == {1}
    intact, deleted_completely = (deleted[importance.RANDOM, share]["planted"][0] for share in (0.0, 1.0))
    assert np.ptp(deleted_completely, 0).max() < 1e-6  # all inputs equal the mean clip
    for method in importance.METHODS:
        first = deleted[method, FRACTIONS[1]]["planted"][0]
        assert np.array_equal(deleted[method, 0.0]["planted"][0], intact)
        assert first[:, :2] == pytest.approx(
            deleted_completely[:, :2], abs=1e-6
        )  # one cell of 128 contained the signal
        random_orders = deleted[importance.RANDOM, FRACTIONS[1]]["planted"]
        assert len(random_orders) == 3
        assert np.abs(np.mean(random_orders, 0) - intact)[:, :2].mean() < 0.5 * np.abs(first - intact)[:, :2].mean()


def test_region_has_one_step_or_none_without_a_stream() -> None:
    assert Region("flow", moment=7).slices((3, 2, 8, 8)) == (slice(2, 3),)
    assert Region("faces", (7, 0)).slices((3, 3, 112, 112))[2:] == (slice(98, 112), slice(0, 14))
    no_steps = Steps(np.zeros((0, 2, 16, 16), np.float32), np.zeros(0, np.float32), np.zeros(0, bool))
    inputs = SAMPLES[0].inputs | {"move": {"flow": no_steps}}
    removed = remove_regions(inputs, [Region("flow", MOUTH)], mean_steps(SAMPLES))
    assert removed["move"]["flow"].values.shape == (0, 2, 16, 16)


def test_importance_figures_show_maps_and_curves(measured: importance.RegionImportance, tmp_path: Path) -> None:
    importance.write(tmp_path / "importance.h5", measured)
    with h5py.File(tmp_path / "importance.h5") as file:
        read_back = read.read_importance(file)
    results = FigureInputs(importance=read_back).select_targets("planted")
    face = figures.importance_on_the_face.draw(results, GROUP)
    assert [axes.get_title() for axes in face.axes[:4]] == list(GROUP.columns)
    assert face.axes[0].get_ylabel() == "faces\nocclusion"
    maps = [np.asarray(axes.images[-1].get_array()) for axes in face.axes[:16]]
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == BROW
    assert np.unravel_index(maps[5].argmax(), maps[5].shape) == MOUTH
    assert maps[3].max() == maps[4].max() == 0
    time = figures.importance_over_time.draw(results, GROUP).axes[1]
    lines = {line.get_label(): line.get_ydata() for line in time.lines}
    assert lines["flow, occlusion"].argmax() == LATE
    assert max(lines["faces, occlusion"]) == 0
    deleted = importance.delete(Fabric(devices=1), PlantedNetwork(), SAMPLES, measured, FRACTIONS, DRAWS, 5)
    actual = deleted["random", 0.0]["planted"][0].copy()
    actual[0, 0] = np.nan
    table = deletion_table({key: predictions["planted"] for key, predictions in deleted.items()}, actual, GROUP).assign(
        targets="planted"
    )
    rows = table.set_index(["order", "deleted", "target"])
    for method in importance.METHODS:
        assert rows.loc[(method, 0.0, "mean"), "accuracy"] == 1
        assert (table.loc[table["target"] == "none", "accuracy"] == 1).all()
        assert rows.loc[(method, 0.125, "red"), "accuracy"] < rows.loc[("random", 0.125, "red"), "accuracy"]
    random_row = rows.loc[("random", 0.125, "red")]
    assert (random_row["draws"], rows.loc[("random", 1.0, "red"), "draws"]) == (3, 1)
    assert random_row["lowest"] < random_row["accuracy"] < random_row["highest"]
    curve = figures.deletion.draw(FigureInputs(deletion=table), GROUP).axes[0].lines[0]
    assert curve.get_xdata() == pytest.approx(100 * np.array(FRACTIONS))
    assert curve.get_ydata() == pytest.approx(
        [rows.loc[("occlusion", fraction, "red"), "accuracy"] for fraction in FRACTIONS]
    )
    for module in (figures.importance_on_the_face, figures.importance_over_time, figures.deletion):
        assert "importance_clips is 0" in module.draw(FigureInputs(), GROUP).axes[0].texts[0].get_text()


def test_single_vector_per_clip_has_no_regions() -> None:
    steps = Steps(np.ones((1, 3), np.float32), np.zeros(1, np.float32), np.ones(1, bool))
    clips = [Sample({"said": {"features": steps}}, {}, index) for index in range(2)]
    network = SimpleNamespace(
        settings_by_encoder={"said": EncoderSettings(kind="vectors", reads=["features"], take="all", steps=1)}
    )
    assert list(list_regions(network, clips, 8, 8)) == []
    without_regions = importance.measure_importance(Fabric(devices=1), network, clips, [], 2)
    assert without_regions == importance.RegionImportance([], {}, {}, {})
    assert importance.delete(Fabric(devices=1), network, clips, without_regions, FRACTIONS, DRAWS, 2) == {}
    assert deletion_table({}, np.zeros((2, 4)), GROUP).empty
