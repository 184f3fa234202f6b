"""Corrupted faces: dependent streams are recomputed, and accuracy falls where information was removed."""

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lib.analysis import robustness
from lib.core import shards
from lib.core.parameters import check
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.dataset import ClipDataset
from lib.data.inputs import EncoderSettings
from lib.model.heads import HeadOutput
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.tables import control_table
from lib.streams import base, flow
from lib.streams.base import StreamInfo
from lib.streams.behaviour.measures import MEASURES
from tests.small_network import FACE_AND_FLOW_INPUTS
from tests.test_behaviour import VALUES as BEHAVIOUR
from tests.test_behaviour import make_frames, make_still

SIDE, CLIPS = 32, 12
FLOW = {
    "enabled": True, "backend": "torch", "lambda": 0.15, "theta": 0.1, "tau": 0.15, "scales": 2, "scale_step": 0.8, 
    "warps": 2, "iterations": 20, "epsilon": 0.01, "median": True, "bound": 16.0,
}  # fmt: skip
STREAMS = {
    "faces": StreamInfo({}, {"": [3, SIDE, SIDE]}),
    "flow": StreamInfo(FLOW, {"": [2, SIDE, SIDE]}),
}
GROUP = TargetGroup(columns=["bright", "mouth", "moved"], range=[0, 1], head="linear", loss="mse", weight=1)


class PlantedNetwork(nn.Module):
    """Predicts the brightness of the image's edge and of the mouth, and the motion."""

    def __init__(self) -> None:
        super().__init__()
        self.settings_by_encoder = FACE_AND_FLOW_INPUTS

    def forward(self, inputs: dict) -> SimpleNamespace:
        faces, flow = (inputs[encoder][stream].values for encoder, stream in (("look", "faces"), ("move", "flow")))
        mouth = faces[..., 25:28, 15:18].flatten(1).mean(1)
        values = [faces[..., 0, :].flatten(1).mean(1), mouth, flow.abs().flatten(1).mean(1)]
        values = torch.stack(values, 1)
        return SimpleNamespace(predicted={"planted": values}, predictions={"planted": HeadOutput(values)})


def make_record(index: int) -> Record:
    rng = np.random.default_rng(index)
    faces = np.full((7, SIDE, SIDE, 3), rng.integers(100, 256), np.uint8)
    faces[:, 25:28, 15:18] = rng.integers(150, 256)
    shade = rng.integers(0, 90)
    for time, face in enumerate(faces):
        face[8:16, 4 + time : 12 + time] = shade
    is_found, cut = np.full(7, 2, np.uint8), np.array([1, 0, 0, 0, 1, 0, 0], bool)
    return Record(f"c{index:02d}", {"faces": faces, "found": is_found, "cut": cut, "times": np.arange(7) / 5})


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    folder = tmp_path_factory.mktemp("data")
    make = flow.make_extractor(check(FLOW, flow.Settings, "flow"))
    for name in STREAMS:
        (folder / name).mkdir()
        with h5py.File(folder / name / "one.h5", "w") as file:
            for index in range(CLIPS):
                clip_record = make_record(index)
                shards.write_record(file, clip_record if name == "faces" else make(clip_record))
    table = pd.DataFrame({"clip": [f"c{index:02d}" for index in range(CLIPS)], "shard": "one"})
    return ClipDataset(table, folder, FACE_AND_FLOW_INPUTS, STREAMS, {})


@pytest.mark.slow
def test_corruptions_cost_accuracy_where_they_act(clips: ClipDataset) -> None:
    predicted = robustness.predict(Fabric(devices=1), PlantedNetwork(), STREAMS, clips, range(CLIPS), 5)
    assert len(predicted) == 1 + 3 * len(robustness.CORRUPTIONS)
    planted = {corruption: values["planted"] for corruption, values in predicted.items()}
    intact = planted[robustness.INTACT]
    stored = np.stack([make_record(index).arrays["faces"] for index in range(CLIPS)]) / 255
    assert intact[:, 0] == pytest.approx(stored[:, :, 0].mean((1, 2, 3)), abs=1e-6)
    for percent in (50, 25, 12):
        dark = planted["light (%)", percent]
        assert dark[:, :2] == pytest.approx(intact[:, :2] * percent / 100, abs=0.003)
        assert (dark[:, 2] != intact[:, 2]).all()  # flow is recomputed
    assert planted["eyes covered (% of height)", 10][:, :2] == pytest.approx(intact[:, :2])
    mouth = planted["mouth covered (% of height)", 30]
    assert mouth[:, 0] == pytest.approx(intact[:, 0])
    assert mouth[:, 1] == pytest.approx(127 / 255, abs=1e-4)
    assert (planted["frames (one of ...)", 2][:, 2] > intact[:, 2]).all()  # larger steps
    assert np.isnan(planted["frames (one of ...)", 5]).sum() == 0
    named = {str(corruption): [values] for corruption, values in planted.items()}
    table = control_table(named, str(robustness.INTACT), intact, np.arange(CLIPS), GROUP, Bootstrap(200, 0))
    corruptions = [{str(corruption): corruption for corruption in planted}[name] for name in table["control"]]
    table["corruption"], table["strength"] = zip(*corruptions, strict=True)
    panels = {axes.get_xlabel(): axes for axes in figures.robustness.draw(FigureInputs(robustness=table), GROUP).axes}
    assert [*panels][: len(robustness.CORRUPTIONS)] == [*robustness.CORRUPTIONS]
    lines = {line.get_label(): line.get_ydata() for line in panels["mouth covered (% of height)"].lines}
    assert lines["bright"] == pytest.approx([0, 0, 0])
    assert lines["mouth"][2] == pytest.approx(np.abs(intact[:, 1] - 127 / 255).mean(), abs=1e-4)
    assert "robustness_clips is 0" in figures.robustness.draw(FigureInputs(), GROUP).axes[0].texts[0].get_text()


class MeasuringNetwork(nn.Module):
    """Predicts the mean fraction of pixels that change from frame to frame."""

    settings_by_encoder: ClassVar = {
        "moments": EncoderSettings(kind="vectors", reads=["behaviour.steps"], take="all", steps=1)
    }

    def forward(self, inputs: dict) -> SimpleNamespace:
        column = [measure.name for measure in MEASURES if not measure.needs].index("frame_motion")
        values = inputs["moments"]["behaviour.steps"].values[..., column].nanmean(1, keepdim=True)
        return SimpleNamespace(predicted={"own": values}, predictions={"own": HeadOutput(values)})


@pytest.mark.slow
def test_streams_that_also_read_frames_are_recomputed() -> None:
    records = dict(zip(("frames", "faces", "landmarks", "flow"), make_still(points=5), strict=True))
    records["frames"] = make_frames(30, slice(480, 640))  # every second frame is brighter
    behaviour = StreamInfo(BEHAVIOUR, {"steps": [20], "statistics": [90]})
    landmarks = StreamInfo({"enabled": True, "detector": "faces"}, {"": [5, 2]})
    streams = {**STREAMS, "landmarks": landmarks, "behaviour": behaviour}
    records["behaviour"] = base.load("behaviour").make_extractor(base.load("behaviour").settings(**BEHAVIOUR))(
        *(records[name] for name in ("frames", "faces", "landmarks", "flow"))
    )
    clips = SimpleNamespace(records=lambda index, names: {name: records[name] for name in names})
    predicted = robustness.predict(Fabric(devices=1), MeasuringNetwork(), streams, clips, range(1), 1)
    motion = {corruption: float(values["own"][0, 0]) for corruption, values in predicted.items()}
    assert motion.pop(("frames (one of ...)", 2)) == 0  # equal frames remain
    assert motion.pop(("frames (one of ...)", 3)) == pytest.approx(0.125, abs=0.01)
    assert motion.pop(("frames (one of ...)", 5)) == pytest.approx(0.125, abs=0.01)
    assert [*motion.values()] == pytest.approx([0.125] * len(motion), abs=0.01)  # only the faces are corrupted


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_corruption_grows_with_its_strength(name: str) -> None:
    rng = np.random.default_rng(0)
    arrays = make_record(0).arrays | {"faces": rng.integers(0, 256, (7, SIDE, SIDE, 3), np.uint8)}
    intact = Record("a", arrays)
    _, strengths = robustness.CORRUPTIONS[name]
    corrupted = [robustness.corrupt(intact, name, strength).arrays for strength in strengths]
    if name.startswith("frames"):
        assert [arrays_of_strength["times"].tolist() for arrays_of_strength in corrupted] == [
            [0, 0.4, 0.8, 1.2],
            [0, 0.6, 1.2],
            [0, 1.0],
        ]
        assert [arrays_of_strength["cut"].tolist() for arrays_of_strength in corrupted] == [
            [1, 0, 1, 0],
            [1, 0, 1],
            [1, 1],
        ]
        assert all(
            len(values) == len(arrays_of_strength["times"])
            for arrays_of_strength in corrupted
            for values in arrays_of_strength.values()
        )
        return
    gaps = [
        np.abs(arrays_of_strength["faces"].astype(float) - arrays["faces"]).mean() for arrays_of_strength in corrupted
    ]
    assert 0 < gaps[0] < gaps[1] < gaps[2]
    assert all(
        arrays_of_strength["faces"].shape == arrays["faces"].shape and arrays_of_strength["faces"].dtype == np.uint8
        for arrays_of_strength in corrupted
    )
    assert not np.array_equal(arrays["faces"], corrupted[0]["faces"])


def test_robustness_skips_clips_without_streams(clips: ClipDataset, tmp_path: Path) -> None:
    for name in STREAMS:
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "one.h5", "w") as file:
            shards.write_record(file, make_record(0) if name == "faces" else Record("c00", rejected="flow: none"))
    without_flow = ClipDataset(clips.table[:1], tmp_path, FACE_AND_FLOW_INPUTS, STREAMS, {})
    predicted = robustness.predict(Fabric(devices=1), PlantedNetwork(), STREAMS, without_flow, [0], 5)
    assert not predicted[robustness.INTACT]
    audio_network = SimpleNamespace(
        settings_by_encoder={"voice": EncoderSettings(kind="vectors", reads=["audio"], take="all", steps=1)}
    )
    assert robustness.predict(Fabric(devices=1), audio_network, {"audio": StreamInfo({}, {})}, clips, [0], 5) == {}
