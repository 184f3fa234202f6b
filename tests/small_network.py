"""A small network, random clips in memory and their training, for tests of models and training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from lib.core.targets import TRAITS, TargetGroup, Targets
from lib.data.batch import Sample, collate
from lib.data.inputs import EncoderSettings
from lib.data.settings import Augment
from lib.model.encoders import images
from lib.model.fusions import FUSIONS
from lib.model.heads import find_head
from lib.model.network import Network, Output
from lib.model.settings import Settings
from lib.streams.base import Steps, StreamInfo
from lib.training.data import TrainData
from lib.training.hooks import Loggers
from lib.training.run import train
from lib.training.settings import Train

TRAITS_GROUP: Targets = {
    "traits": TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1.0)
}


GENERAL_FUSIONS = [name for name in FUSIONS if name != "stacked" and not name.startswith("multitask")]
"""Fusions that take any number of encoders of any kind and width."""


IMAGE_ENCODER: dict[str, Any] = {
    "kind": "images", "shorter_side": None, "crop": None, "backbone": "resnet10", "filters": [[8], [8, 8]], "weights": None,
    "frozen": 0, "place": "keep", "time": "keep", "units": 8,
}  # fmt: skip


def make_settings(use: list[str] | None = None, fusion: str = "cross_attention", **changes: Any) -> Settings:
    """Settings of a small network. The changes `faces` and `flow` are changes of these encoders' settings."""
    faces = {"reads": ["faces"], "take": "parts", "steps": 2} | IMAGE_ENCODER
    flow = {"kind": "volumes", "reads": ["flow"], "take": "all", "steps": 1, "backbone": "conv3d", "weights": None}
    audio = {"kind": "vectors", "reads": ["audio.log_mel"], "take": "all", "steps": 1, "net": "mlp", "width": 24}
    encoders = {
        "faces": faces | changes.pop("faces", {}),
        "flow": flow | changes.pop("flow", {}),
        "audio": audio | {"depth": 1, "dropout": 0.1, "pool": 2},
    }
    small = {
        "queries": [],
        "targets": ["traits"],
        "missing": "drop",
        "width": 24,
        "heads": 4,
        "depth": 1,
        "dropout": 0.1,
        "hidden": 0,
    }
    return Settings(**(small | {"use": use or ["faces", "flow"], "fusion": fusion, "encoders": encoders} | changes))


def make_network(*arguments: Any, targets: Targets = TRAITS_GROUP, side: int = 32, **changes: Any) -> Network:
    shapes = {"faces": {"": [3, side, side]}, "flow": {"": [2, side, side]}, "audio": {"log_mel": [8], "mfcc": [4]}}
    streams = {name: StreamInfo({}, shape) for name, shape in shapes.items()}
    return Network.from_settings(make_settings(*arguments, **changes), targets, streams)


def random_clip(length: int, side: int, generator: np.random.Generator, index: int, use: list[str]) -> Sample:
    """A random clip: two faces, `length` flow fields and `3 * length` audio windows."""
    arrays = {
        "faces": ("faces", generator.integers(0, 255, (2, 3, side, side), np.uint8), np.array([0.2, 0.6])),
        "flow": ("flow", generator.normal(size=(length, 2, side, side)).astype(np.float32), np.arange(length) / 5),
        "audio": (
            "audio.log_mel",
            generator.normal(size=(3 * length, 8)).astype(np.float32),
            np.arange(3 * length) / 15,
        ),
    }
    inputs = {
        name: {reference: Steps(values, times.astype(np.float32), np.ones(len(times), bool))}
        for name, (reference, values, times) in arrays.items()
        if name in use
    }
    return Sample(inputs, {"traits": generator.uniform(size=5).astype(np.float32)}, index)


class InMemoryClips(torch.utils.data.Dataset):
    """Clips with 4 to 6 flow fields. Their targets depend on the faces' brightness and the audio level."""

    def __init__(self, count: int, side: int = 32, use: tuple[str, ...] = ("faces", "flow")) -> None:
        generator = np.random.default_rng(0)
        self.samples, self.epoch, levels = [], 0, []
        for index in range(count):
            clip, level = random_clip(4 + index % 3, side, generator, index, list(use)), (index * 37 % 100) / 100
            for name, inputs in clip.inputs.items():
                for reference, steps in inputs.items():
                    if name == "faces":
                        values = (steps.values * 0.2 + 200 * level).astype(np.uint8)
                    else:
                        values = steps.values * 0.2 + np.float32(level)
                    inputs[reference] = steps._replace(values=values)
            self.samples.append(clip)
            levels.append(level)
        self.targets = {"traits": np.tile(np.array(levels)[:, None], (1, 5))}
        self.table = pd.DataFrame({"clip": [f"{index}.mp4" for index in range(count)], "corpus": "demo"})

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        targets = {name: values[index].astype(np.float32) for name, values in self.targets.items()}
        return self.samples[index]._replace(targets=targets)


class TinyNetwork(torch.nn.Module):
    """A network without batch norm and dropout: its results do not depend on how a batch is divided."""

    def __init__(self, targets: Targets = TRAITS_GROUP) -> None:
        super().__init__()
        self.settings_by_encoder = {
            name: EncoderSettings(kind="", reads=[name], take="all", steps=1) for name in ("faces", "flow")
        }
        self.heads = torch.nn.ModuleDict(
            {name: find_head(group)(3, len(group.columns)) for name, group in targets.items()}
        )

    def forward(self, inputs: dict[str, Any]) -> Output:
        flow, faces = inputs["flow"]["flow"], inputs["faces"]["faces"].values
        moved = (flow.values[:, :, 0].mean((2, 3)).sum(1) / flow.present.sum(1))[:, None]
        bright = faces[..., : faces.shape[-1] // 2].mean((1, 2, 3, 4))[:, None]
        joined = torch.cat([bright, moved, bright * moved], 1)
        return Output({name: head([joined]) for name, head in self.heads.items()}, {}, {}, torch.zeros(()))

    def parameter_groups(self) -> Any:
        return (("head", parameter) for parameter in self.parameters())


TRAIN_SETTINGS: dict[str, Any] = {
    "seed": 1, "epochs": 2, "batch_size": 4, "accumulate": 1, "mix": {}, "label_weighting": "none",
    "label_density": {"bins": 100, "std": 2.0, "radius": 2}, "plateau": {"patience": 3, "factor": 0.5},
    "optimizer": "adamw", "betas": [0.9, 0.999], "momentum": 0.9, "learning_rate": {"default": 1e-3},
    "weight_decay": 0.01, "decay_all": True, "ema": None,
    "schedule": "cosine", "warmup": 1, "patience": 5, "interval": 0.9, "clip_norm": 1.0, "workers": 0,
    "fairness": "none", "fairness_group": "gender", "fairness_weight": 0.1,
    "shuffle_labels": False, "clips": None, "init": None, "devices": 1, "loggers": [], "precision": "32-true",
    "augment": {"mirror": True, "shift": 2, "brightness": 0.1, "contrast": 0.1},
}  # fmt: skip


def make_augment(**changes: Any) -> Augment:
    """Settings of augmentation; by default only half of the clips are mirrored."""
    return Augment(**({"mirror": True, "shift": 0, "brightness": 0.0, "contrast": 0.0} | changes))


LIGHT = make_augment(shift=2, brightness=0.1, contrast=0.1)
FULL = LIGHT.model_copy(
    update={
        "rotation": 20.0, "scale": 0.2, "saturation": 0.5, "hue": 0.1, "erasing": 0.5, "time_mask": 0.5,
        "frequency_mask": 0.4, "noise": 0.3, "word_dropout": 0.3,
    }
)  # fmt: skip


Trained = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


def default_rate(rate: float) -> dict[str, Any]:
    """The same learning rate for all parameters."""
    return {"default": rate}


def cpu_fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def train_network(
    folder: Path,
    net: torch.nn.Module | None = None,
    fabric: Fabric | None = None,
    clips: int | InMemoryClips = 8,
    targets: Targets = TRAITS_GROUP,
    loggers: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    **changes: Any,
) -> Trained:
    folder.mkdir(exist_ok=True)
    values = TRAIN_SETTINGS | changes
    torch.manual_seed(values["seed"])
    net = net or make_network()
    use = tuple(net.settings_by_encoder)
    training = InMemoryClips(clips, use=use) if isinstance(clips, int) else clips
    validation = InMemoryClips(5, use=use) if isinstance(clips, int) else clips
    settings = Train(**values)  # type: ignore[arg-type]
    data: Any = TrainData(training, validation, targets, settings, net.settings_by_encoder, groups=groups or {})  # type: ignore[arg-type]
    return train(fabric or cpu_fabric(), net, data, folder, [Loggers(loggers, {"train": values})])  # type: ignore[arg-type]


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def partly_labelled_clips(count: int) -> InMemoryClips:
    """Clips; for every third one, two labels are missing."""
    clips = InMemoryClips(count)
    clips.targets["traits"][::3, :2] = np.nan
    return clips


def random_clips(lengths: list[int], use: Sequence[str] = ("faces", "flow"), side: int = 32) -> list[Sample]:
    generator = np.random.default_rng(0)
    return [random_clip(length, side, generator, index, list(use)) for index, length in enumerate(lengths)]


def predict_traits(net: Network, clips: list[Sample]) -> Tensor:
    return net(collate(clips).inputs).predicted["traits"]


def make_steps(values: Tensor, present: Tensor | None = None) -> Steps:
    """Steps one second apart, all present by default."""
    batch, length = values.shape[:2]
    times = torch.arange(length, dtype=torch.float32).expand(batch, -1)
    return Steps(values, times, torch.ones(batch, length, dtype=torch.bool) if present is None else present)


def image_encoder(backbone: str, weights: str | None = None, frozen: int = 0, **changes: Any) -> images.Encoder:
    backbone_settings = {"backbone": backbone, "weights": weights, "frozen": frozen}
    values = images.Settings(
        **(IMAGE_ENCODER | {"reads": ["faces"], "take": "all", "steps": 1} | backbone_settings | changes)
    )
    return images.Encoder(values, [[3, 32, 32]])


def feature_maps(encoder: images.Encoder, frames: Tensor) -> Tensor:
    """Feature maps (B, D, T, h, w) of images (B, T, 3, S, S)."""
    tokens = encoder({"faces": make_steps(frames)})
    return tokens.values.transpose(1, 2).unflatten(2, (frames.shape[1], *tokens.grid))


FACE_AND_FLOW_INPUTS = {
    "look": EncoderSettings(kind="images", reads=["faces"], take="all", steps=1),
    "move": EncoderSettings(kind="volumes", reads=["flow"], take="all", steps=1),
}
