"""Train the two-stream network and keep the best epoch: data/model.pt, plots/history.csv."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from lib import clips, errors, parameters, training, work
from lib.dataset import Clips, usable
from lib.errors import InputError
from lib.model.network import Network
from lib.parameters import Section

CLIPS, FACES, FLOW, MODEL, HISTORY = (
    Path(name) for name in ("data/clips.csv", "data/faces", "data/flow", "data/model.pt", "plots/history.csv")
)


class Static(Section):
    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
    weights: str | None
    frozen: Annotated[int, Field(ge=0, le=5)]
    frames: Annotated[int, Field(ge=1)]


class Dynamic(Section):
    backbone: Literal["conv3d", "r3d_18", "mc3_18", "r2plus1d_18"]


class Model(Section):
    fusion: Literal["cross_attention", "concat", "static", "dynamic"]
    width: Annotated[int, Field(ge=6)]
    heads: Annotated[int, Field(ge=1)]
    depth: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    static: Static
    dynamic: Dynamic


class Augment(Section):
    mirror: bool
    shift: Annotated[int, Field(ge=0)]
    brightness: Annotated[float, Field(ge=0, le=1)]
    contrast: Annotated[float, Field(ge=0, le=1)]


class Train(Section):
    seed: Annotated[int, Field(ge=0)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[int, Field(ge=0)]
    patience: Annotated[int, Field(ge=1)]
    clip_norm: Annotated[float, Field(gt=0)]
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    workers: Annotated[int, Field(ge=0)]
    augment: Augment


class Parameters(Section):
    # what the model was fed with goes along with its weights; their own stages check these three
    frames: dict[str, Any]
    faces: dict[str, Any]
    flow: dict[str, Any]
    model: Model
    train: Train


def main() -> None:
    settings = parameters.load("train", Parameters)
    table = usable(clips.read(CLIPS), FLOW)
    of_split = {split: table[table["split"] == split].reset_index(drop=True) for split in clips.SPLITS}
    for split in ("training", "validation"):
        if len(of_split[split]) < 2:
            raise InputError(
                f"{len(of_split[split])} clips of the {split} split came through; training needs 2 or more"
            )
    torch.manual_seed(settings.train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = Network(**settings.model.model_dump())
    frames = settings.model.static.frames
    inputs = [work.sha256(path) for path in (CLIPS, *sorted(FACES.glob("*.h5")), *sorted(FLOW.glob("*.h5")))]
    folder = work.ROOT / f"train-{work.fingerprint('train', settings.model_dump(), inputs)}"
    folder.mkdir(parents=True, exist_ok=True)
    weights, history = training.fit(
        network,
        Clips(of_split["training"], FACES, FLOW, frames, settings.train.seed),
        Clips(of_split["validation"], FACES, FLOW, frames),
        folder,
        augmentation=settings.train.augment.model_dump(),
        **settings.train.model_dump(exclude={"augment"}),
    )
    torch.save({"weights": weights, "parameters": settings.model_dump(exclude={"train"})}, MODEL)
    training.write_history(history, HISTORY)
    shutil.rmtree(folder)


if __name__ == "__main__":
    errors.run_stage(main)
