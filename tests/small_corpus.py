"""A corpus of seven clips with streams, and random models, without DVC. Modules import the fixtures."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import torch

import tools.predict
from lib.core import parallel, parameters, resume
from lib.core.clips import read_clip_table
from lib.core.targets import TRAITS
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.network import Network
from lib.sources.demo.head import Identity, Performance, render
from lib.streams import build
from lib.training.prepare import load_streams, standardise
from lib.training.settings import Parameters
from tests.run_tool import call_main
from tests.stage_parameters import small_parameters, use_parameters
from tests.video_files import (
    write_talking_head,
)

CPU, FPS = torch.device("cpu"), 15
START_LOKY = parallel.start_executor  # the fixture `project` replaces it
NAMES = [f"v{index}.000.mp4" for index in range(7)]
MUTE = NAMES[2]
SPLITS = ["training", "training", "training", "training", "validation", "validation", "test"]
STREAMS = ["frames", "audio", "features", "faces", "flow"]


def write_video_without_audio(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module", name="project")
def corpus_with_streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with seven clips and their streams. One clip has no audio."""
    folder = tmp_path_factory.mktemp("project")
    raw = folder / "data/raw/demo/one"
    raw.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        performance = Performance(index / 3 - 1, 0.5 + index / 5, index / 4 - 0.5, index)
        if name == MUTE:
            write_video_without_audio(raw / name, render(Identity(index), performance, 2.0, FPS)[0])
        else:
            write_talking_head(raw / name, index, performance, 2.0, FPS)
    table = pd.DataFrame({"clip": NAMES, "video": NAMES, "split": SPLITS}).assign(
        corpus=["demo"] * 5 + ["own"] * 2,
        shard="demo-one",
        file=[f"demo/one/{name}" for name in NAMES],
        sha256=[resume.hash_file(raw / name) for name in NAMES],
        **{trait: np.linspace(0.2, 0.8, 7) for trait in TRAITS},
        warm=[np.nan, 2, 3, 4, 5, np.nan, 7],
        start=np.nan,
        end=np.nan,
        reason="",
    )
    table.loc[3, list(TRAITS)] = np.nan
    table.to_csv(folder / "data/clips.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
        use_parameters(patch, small_parameters())
        for name in STREAMS:
            build.build_stream(name)
        yield folder


@pytest.fixture(autouse=True)
def use_small_corpus(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_parameters(monkeypatch, small_parameters())


def training_parameters(**changes: Any) -> Parameters:
    values = small_parameters(**changes)
    return parameters.check({name: values[name] for name in Parameters.model_fields}, Parameters)


def save_random_model(folder: Path, **changes: Any) -> Path:
    """Save a network with random weights, its streams and standardisation."""
    settings = training_parameters(**changes)
    settings_by_encoder, targets = settings.model.settings_by_encoder(), settings.model.select_targets(settings.targets)
    streams = load_streams(settings_by_encoder)
    torch.manual_seed(1)
    network = Network.from_settings(settings.model, targets, streams)
    for parameter in network.absent.values():
        torch.nn.init.normal_(parameter)
    standardise(
        network, read_clip_table(Path("data/clips.csv"))[:4].reset_index(drop=True), settings_by_encoder, streams
    )
    checkpoint.save(
        folder / "model.pt", network.state_dict(), settings.model, targets, streams, TrainingSummary(["demo"])
    )
    return folder / "model.pt"


def raw_path(project: Path, name: str) -> Path:
    return project / "data/raw/demo/one" / name


def run_predict(*arguments: object) -> int:
    """Return the exit status of tools/predict.py."""
    with pytest.raises(SystemExit) as caught:
        call_main(tools.predict, *arguments)
    return int(caught.value.code)  # type: ignore[arg-type]


def save_model_with_references(folder: Path, seconds: list[float], half_width: float) -> Path:
    """Save a network with random weights and the given references."""
    settings = training_parameters()
    settings_by_encoder, targets = settings.model.settings_by_encoder(), settings.model.select_targets(settings.targets)
    streams = load_streams(settings_by_encoder)
    torch.manual_seed(1)
    weights = Network.from_settings(settings.model, targets, streams).state_dict()
    references = {
        name: checkpoint.LabelQuantiles(
            torch.linspace(*group.range, 101)[:, None].expand(-1, len(group.columns)),
            torch.full((len(group.columns),), half_width),
        )
        for name, group in targets.items()
    }
    checkpoint.save(
        folder / "model.pt",
        weights,
        settings.model,
        targets,
        streams,
        TrainingSummary(["own"], seconds=seconds, references=references),
    )
    return folder / "model.pt"
