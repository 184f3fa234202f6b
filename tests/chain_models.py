"""Models with random weights whose chain can be exported, and a way to run the chain without PyTorch."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.core.parameters import check
from lib.core.targets import TargetGroup
from lib.data.inputs import list_streams
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.committee import Committee, build_model
from lib.model.settings import Settings
from lib.streams import base
from lib.streams.base import StreamInfo
from lib.training import regressions
from tests.stage_parameters import small_parameters

BLOCKED = (
    "torch", "torchvision", "facenet_pytorch", "pydantic", "librosa", "scipy", "pandas", "h5py", "sklearn",
)  # fmt: skip


def list_shapes(values: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Return the shapes of the streams that the chain extracts, with these parameters."""
    side, audio = values["faces"]["side"], values["audio"]
    return {
        "frames": {"": [3, 240, 320]}, "faces": {"": [3, side, side]}, "landmarks": {"": [5, 2]},
        "flow": {"": [2, side, side]}, "audio": {"log_mel": [audio["mels"]], "mfcc": [audio["mfcc"]]},
    }  # fmt: skip


def save_model(path: Path, **changes: Any) -> Path:
    """Save a network with random weights, and small parameters with changes."""
    return save_network(path, small_parameters(**({"model__missing": "drop"} | changes)))


def save_network(path: Path, values: dict[str, Any]) -> Path:
    """Save a network of these parameters with random weights, and tables of intervals and percentiles."""
    settings = check(values["model"], Settings)
    targets = settings.select_targets({name: check(group, TargetGroup) for name, group in values["targets"].items()})
    read = base.list_with_inputs
    shapes = list_shapes(values)
    names = [name for stream in list_streams(settings.settings_by_encoder()) for name in read(stream, values)]
    streams = {name: StreamInfo(dict(values[name]), shapes[name]) for name in dict.fromkeys(names)}
    torch.manual_seed(1)
    model = build_model(settings, targets, streams)
    if isinstance(model, Committee):
        fit_stacks(model)
    weights = model.state_dict()
    references = {
        name: checkpoint.LabelQuantiles(
            torch.linspace(*group.range, 101)[:, None].expand(-1, len(group.columns)),
            torch.full((len(group.columns),), 0.1),
        )
        for name, group in targets.items()
    }
    training = TrainingSummary(["fiv2"], seconds=[1.9, 2.1], references=references)
    checkpoint.save(path, weights, settings, targets, streams, training)
    return path


def fit_stacks(model: Committee) -> None:
    """Fit the regressions of a stacked model on random numbers of the stream audio.mfcc."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 12)).astype(np.float32)
    for name, stack in model.stacks.items():
        labels = rng.uniform(size=(40, model.first.heads[name].layers[0][1].out_features))  # type: ignore[index,union-attr]
        numbers = regressions.Numbers(values, {"audio": np.arange(12)})
        fitted = regressions.fit_stack(numbers, labels, np.arange(40) // 2, trees=True, others=labels + 0.1)
        stack.set(**fitted.tensors)  # type: ignore[operator]


def save_sound_model(path: Path, **changes: Any) -> Path:
    """Save a model of one encoder of kind vectors that reads MFCC."""
    reads = {"model__use": ["features"], "model__encoders__features__reads": ["audio.mfcc"]}
    return save_model(path, **reads, **changes)


def run_without_torch(folder: Path, *arguments: object) -> list[dict[str, Any]]:
    """Return the predictions of a chain, in a process that can import neither PyTorch nor this project."""
    program = str(folder / "predict.py")
    script = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({BLOCKED})); sys.argv[0] = {program!r};"
        f" runpy.run_path({program!r}, run_name='__main__')"
    )
    line = [sys.executable, "-I", "-c", script, *map(str, arguments)]
    result = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert not result.stderr
    return [json.loads(text) for text in result.stdout.splitlines()]
