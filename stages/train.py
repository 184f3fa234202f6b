"""Train the two-stream network and keep the best epoch: data/model.pt, plots/history.csv."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from pydantic import Field

from lib.core import clips, command, parameters, resume
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.core.targets import SCORES
from lib.data.dataset import Clips, usable
from lib.model import checkpoint
from lib.model.encoders.images import PARTS
from lib.model.fusions import FUSIONS
from lib.model.network import OUTPUTS, Network
from lib.training import loop
from lib.training.loggers import LOGGERS
from lib.training.losses import LOSSES, WEIGHTINGS

CLIPS, FACES, FLOW, MODEL, HISTORY = (
    Path(name) for name in ("data/clips.csv", "data/faces", "data/flow", "data/model.pt", "plots/history.csv")
)


class Static(Section):
    backbone: str
    weights: str | None
    frozen: Annotated[int, Field(ge=0, le=PARTS)]
    frames: Annotated[int, Field(ge=1)]


class Dynamic(Section):
    backbone: str
    weights: str | None


class Model(Section):
    fusion: Literal[*FUSIONS]  # type: ignore[valid-type]
    output: Literal[*OUTPUTS]  # type: ignore[valid-type]
    interview: bool
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


class LearningRate(Section):
    head: Annotated[float, Field(gt=0)]
    static: Annotated[float, Field(gt=0)]
    dynamic: Annotated[float, Field(gt=0)]


class Train(Section):
    seed: Annotated[int, Field(ge=0)]
    shuffle_labels: bool
    init: str | None
    devices: Annotated[int, Field(ge=1)]
    loggers: list[Literal[*LOGGERS]]  # type: ignore[valid-type]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    accumulate: Annotated[int, Field(ge=1)]
    loss: Literal[*LOSSES]  # type: ignore[valid-type]
    label_weighting: Literal[*WEIGHTINGS]  # type: ignore[valid-type]
    learning_rate: LearningRate
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["cosine", "plateau"]
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
    table = usable(clips.read(CLIPS), FACES, FLOW)
    of_split = {split: table[table["split"] == split].reset_index(drop=True) for split in clips.SPLITS}
    for split in ("training", "validation"):
        if len(of_split[split]) < 2:
            raise InputError(
                f"{len(of_split[split])} clips of the {split} split came through; training needs 2 or more"
            )
    train = settings.train
    if train.shuffle_labels:
        of_split = {split: shuffled(rows, train.seed) for split, rows in of_split.items()}
    torch.manual_seed(train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = Network(**settings.model.model_dump())
    inputs = [resume.sha256(path) for path in (CLIPS, *sorted(FACES.glob("*.h5")), *sorted(FLOW.glob("*.h5")))]
    if train.init is not None:
        checkpoint.warm_start(network, Path(train.init))
        inputs.append(resume.sha256(Path(train.init)))
    folder = resume.ROOT / f"train-{resume.fingerprint(['stages.train'], settings.model_dump(), inputs)}"
    folder.mkdir(parents=True, exist_ok=True)
    loggers = [LOGGERS[name](settings.model_dump()) for name in train.loggers]
    strategy = "ddp" if train.devices > 1 else "auto"
    fabric = Fabric(strategy=strategy, devices=train.devices, precision=train.precision, loggers=loggers)
    if train.devices > 1:
        fabric.launch()  # from here on once in each process
        if fabric.device.type == "cuda":
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    frames = settings.model.static.frames
    weights, history = loop.fit(
        fabric,
        network,
        Clips(of_split["training"], FACES, FLOW, frames, train.seed),
        Clips(of_split["validation"], FACES, FLOW, frames),
        folder,
        augmentation=train.augment.model_dump(),
        **train.model_dump(exclude={"augment", "shuffle_labels", "init", "devices", "loggers", "precision"}),
    )
    fabric.barrier()
    for logger in loggers:
        logger.finalize("success")
    if fabric.global_rank == 0:
        torch.save({"weights": weights, "parameters": settings.model_dump(exclude={"train"})}, MODEL)
        loop.write_history(history, HISTORY)
        shutil.rmtree(folder)


def shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the clips with their scores, all of a clip together, dealt out at random."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table.assign(**{score: table[score].to_numpy()[order] for score in SCORES})


if __name__ == "__main__":
    command.run_stage(main)
