"""Clips in HDF5 files keep the order of the analysis, as the captions of figures state."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.analysis import attention, importance, samples
from lib.analysis._regions import Region
from lib.data.batch import Sample
from lib.data.inputs import EncoderSettings
from lib.model.tokens import Tokens
from lib.report.figures import read
from lib.streams.base import Steps, StreamInfo

BY_ERROR = ["z.mp4", "m.mp4", "a.mp4", "k.mp4"]
"""Clips from the lowest error to the highest; neither in the order of names nor its reverse."""


class Attending(nn.Module):
    """Two encoders of two tokens each that attend to each other uniformly."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs: dict, attend: bool = False) -> SimpleNamespace:
        weights = torch.full((1, 1, 2, 2), 0.5)
        tokens = Tokens(torch.zeros(1, 2, 1), torch.arange(2.0)[None], torch.ones(1, 2, dtype=bool), (1, 1))
        return SimpleNamespace(
            attention={("zeta", "alpha"): weights, ("alpha", "zeta"): weights}, tokens={"zeta": tokens, "alpha": tokens}
        )


class FourClips:
    def __init__(self) -> None:
        self.table = pd.DataFrame({"clip": sorted(BY_ERROR)})

    def __getitem__(self, index: int) -> Sample:
        steps = Steps(np.zeros((2, 2, 4, 4), np.float32), np.arange(2, dtype=np.float32), np.ones(2, bool))
        return Sample({"zeta": {"flow": steps}, "alpha": {"flow": steps}}, {}, index)


def test_attention_lists_clips_by_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "ATTENTION", tmp_path / "attention.h5")
    monkeypatch.setattr(attention, "MEAN_ATTENTION", tmp_path / "mean.h5")
    attention.run(
        SimpleNamespace(
            network=Attending(), clips=FourClips(), clips_by_error=pd.Index(BY_ERROR), sample=lambda count: [0, 1],
            settings=SimpleNamespace(attention_clips=3, control_clips=2), seed=0,
        )
    )  # fmt: skip
    with h5py.File(tmp_path / "attention.h5") as file:
        attention_of_clips = read.read_attention(file)
    assert list(attention_of_clips) == ["z.mp4", "m.mp4", "k.mp4"]  # the lowest, a middle and the highest error
    assert list(attention_of_clips["z.mp4"].times) == ["zeta", "alpha"]
    with h5py.File(tmp_path / "mean.h5") as file:
        assert list(read.read_mean_attention(file).encoders) == ["zeta", "alpha"]


def test_importance_lists_streams_in_the_models_order(tmp_path: Path) -> None:
    regions = [Region(name, (row, column)) for name in ("zeta", "alpha") for row in range(8) for column in range(8)]
    sizes = {"traits": np.zeros((len(regions), 1))}
    measured = importance.RegionImportance(regions, dict.fromkeys(importance.METHODS, sizes), {}, {})
    importance.write(tmp_path / "importance.h5", measured)
    with h5py.File(tmp_path / "importance.h5") as file:
        cells = read.read_importance(file).cells
    assert list(cells) == [("traits", method, name) for method in importance.METHODS for name in ("zeta", "alpha")]


def test_samples_list_clips_by_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(np.ones((3, 2, 4, 4), np.float32), np.arange(3, dtype=np.float32), np.ones(3, bool))
    clip = SimpleNamespace(inputs={"pictures/flow": {"flow": steps}})
    monkeypatch.setattr(samples, "ClipDataset", lambda *_: [clip] * len(BY_ERROR))
    settings_by_encoder = {"move": EncoderSettings(kind="volumes", reads=["flow"], take="all", steps=1)}
    table = pd.DataFrame({"clip": BY_ERROR})
    samples.write_samples(
        tmp_path / "samples.h5", table, tmp_path, settings_by_encoder, {"flow": StreamInfo({}, {"flow": [2, 4, 4]})}
    )
    with h5py.File(tmp_path / "samples.h5") as file:
        assert list(read.read_samples(file)) == BY_ERROR


def test_flow_of_all_samples_has_one_colour_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times, present = np.arange(3, dtype=np.float32), np.ones(3, bool)
    clips = [
        SimpleNamespace(inputs={"pictures/flow": {"flow": Steps(np.full((3, 2, 4, 4), size), times, present)}})
        for size in (1.0, 3.0, 2.0)
    ]
    monkeypatch.setattr(samples, "ClipDataset", lambda *_: clips)
    settings_by_encoder = {"move": EncoderSettings(kind="volumes", reads=["flow"], take="all", steps=1)}
    streams = {"flow": StreamInfo({}, {"flow": [2, 4, 4]})}
    samples.write_samples(
        tmp_path / "samples.h5", pd.DataFrame({"clip": BY_ERROR[:3]}), tmp_path, settings_by_encoder, streams
    )
    with h5py.File(tmp_path / "samples.h5") as file:
        scales = [sample.pictures["flow"].full for sample in read.read_samples(file).values()]
    assert scales == pytest.approx([3 * 2**0.5] * 3)
