"""Train the network and keep the best epoch: data/model.pt, plots/history.csv, metrics/train.json."""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from joblib.externals import loky
from lightning_fabric import Fabric
from pydantic import Field

from lib.core import clips, command, parallel, parameters, resume, shards
from lib.core.artifacts import CLIPS, DATA, HISTORY, MODEL, TRAIN_METRICS
from lib.core.clips import SYNTHETIC
from lib.core.device import described
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.core.targets import TargetGroup, Targets
from lib.data.dataset import Clips, Reading, first_videos, labelled, stream_of, streams_of, usable
from lib.model import checkpoint, encoders, infer
from lib.model.checkpoint import Ranges, Reference
from lib.model.network import Network, Settings
from lib.scoring import conformal
from lib.sources import listing
from lib.streams import base
from lib.streams.base import Steps, StreamInfo
from lib.training import loop
from lib.training.loggers import LOGGERS
from lib.training.losses import WEIGHTINGS


class Augment(Section):
    mirror: bool
    shift: Annotated[int, Field(ge=0, le=512)]
    brightness: Annotated[float, Field(ge=0, le=1)]
    contrast: Annotated[float, Field(ge=0, le=1)]


Rate = Annotated[float, Field(gt=0, le=1000)]


class LearningRate(Section):
    head: Rate
    encoders: dict[str, Rate]


class Train(Section):
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    shuffle_labels: bool
    clips: Annotated[int, Field(ge=1, le=100_000_000)] | None
    init: str | None
    devices: Annotated[int, Field(ge=1, le=1024)]
    loggers: list[Literal[*LOGGERS]]  # type: ignore[valid-type]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    accumulate: Annotated[int, Field(ge=1, le=65_536)]
    mix: dict[str, Annotated[float, Field(ge=0, le=1000)]]
    label_weighting: Literal[*WEIGHTINGS]  # type: ignore[valid-type]
    learning_rate: LearningRate
    weight_decay: Annotated[float, Field(ge=0, le=100)]
    decay_all: bool
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    schedule: Literal["cosine", "cosine_by_step", "plateau"]
    warmup: Annotated[int, Field(ge=0, le=100_000)]
    patience: Annotated[int, Field(ge=1, le=100_000)]
    clip_norm: Annotated[float, Field(gt=0, le=1e6)]
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    workers: Annotated[int, Field(ge=0, le=1024)]
    augment: Augment


class Parameters(Section):
    model: Settings
    targets: dict[str, TargetGroup]
    train: Train


def main() -> None:
    if os.environ.get("LOCAL_RANK", "0") != "0":  # started by the first process of a training on several devices
        parallel.end_with_parent()
    given = parameters.load("train", Parameters)
    readings, targets = given.model.readings(), given.model.chosen(given.targets)
    if given.train.devices > (most := torch.cuda.device_count() or loky.cpu_count()):
        raise InputError(f"params.yaml: train.devices = {given.train.devices}; allowed: up to {most}, this machine's")
    streams = streams_read(readings)
    training, validation = tables(given, readings, targets)

    def lengths(name: str) -> list[int]:
        return [len(next(iter(read.values())).times) for read in clips_read(name, training, readings, streams)]

    given = given.model_copy(update={"model": given.model.completed(lengths)})
    readings = given.model.readings()
    folder = resume.ROOT / "train" / fingerprint(given, readings, streams, training, validation)
    if (folder / MODEL.name).exists():
        logging.getLogger("train").info("the finished training is kept: code, settings and data are the same")
    elif not fit(given, readings, targets, streams, training, validation, folder):
        return  # one of several processes, and not the first
    for out in (MODEL, HISTORY, TRAIN_METRICS):
        out.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / out.name, out)
    for other in folder.parent.iterdir():
        if other != folder and (other / MODEL.name).exists():
            shutil.rmtree(other)


def streams_read(readings: Mapping[str, Reading]) -> dict[str, StreamInfo]:
    """Return how the streams that the encoders read were made. Raises InputError for one that is off."""
    for name, reading in readings.items():
        for stream in dict.fromkeys(stream_of(one)[0] for one in reading.reads):
            if not (DATA / stream / base.ABOUT).exists():
                raise InputError(
                    f"params.yaml: model.use has {name}, whose encoder reads {stream}, but {stream}.enabled is false; set"
                    f" {stream}.enabled to true, or remove {name} from model.use"
                )
    return base.load_stream_info(DATA, streams_of(readings))


def tables(given: Parameters, readings: Mapping[str, Reading], targets: Targets) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the clips that are trained and validated on: usable, of corpora in the mix, with a known target; of the
    training clips up to train.clips."""
    table, train = clips.read(CLIPS), given.train
    if unknown := train.mix.keys() - set(table["corpus"]):
        raise InputError(
            f"params.yaml: train.mix has {min(unknown)!r}; allowed: the corpora of data/clips.csv,"
            f" {', '.join(sorted(set(table['corpus'])))}"
        )
    table = usable(table, DATA, readings, given.model.missing)
    table = table[labelled(table, targets) & (table["corpus"].map(train.mix).fillna(1) > 0)]
    found = []
    for split in ("training", "validation"):
        rows = table[table["split"] == split].reset_index(drop=True)
        if rows.empty:
            raise InputError(
                f"no clip of the {split} split came through; data/clips.csv and metrics/STREAM.json say why, and"
                " download.split in params.yaml deals clips out"
            )
        if split == "training":
            rows = first_videos(rows, train.clips, train.seed)
        columns = [column for group in targets.values() for column in group.columns]
        found.append(shuffled(rows, columns, train.seed) if train.shuffle_labels else rows)
    return found[0], found[1]


def fingerprint(
    given: Parameters, readings: Mapping[str, Reading], streams: Mapping[str, StreamInfo], *tables_: pd.DataFrame
) -> str:
    """Return what tells whether a finished training can be kept: the code, settings and data that it really uses."""
    modules = ["stages.train", *(encoders.module_of(one.kind) for one in readings.values())]
    read = streams_of(readings)
    model, training = given.model.model_dump(), given.train.model_dump()
    rates = training["learning_rate"]["encoders"]
    training["learning_rate"]["encoders"] = {name: rates[name] for name in rates if name in readings}
    settings = {
        "model": model | {"encoders": {name: model["encoders"][name] for name in readings}},
        "targets": {name: group.model_dump() for name, group in given.model.chosen(given.targets).items()},
        "train": training,
        "streams": {name: about._asdict() for name, about in streams.items()},
    }
    columns = [column for group in settings["targets"].values() for column in group["columns"]]
    data = [table[["clip", "corpus", "shard", *columns]].to_csv(index=False) for table in tables_]
    sums = [resume.sha256(path) for name in read for path in sorted((DATA / name).glob("*.h5"))]
    files = [given.train.init, *(encoder.get("weights") for encoder in settings["model"]["encoders"].values())]
    files += [encoder.get("landmark_weights") for encoder in settings["model"]["encoders"].values()]
    sums += [resume.sha256(Path(file)) for file in files if file is not None and Path(file).is_file()]
    return resume.fingerprint([*modules, *(base.load(name).module for name in read)], settings, data, sums)


def fit(
    given: Parameters,
    readings: Mapping[str, Reading],
    targets: Targets,
    streams: Mapping[str, StreamInfo],
    training: pd.DataFrame,
    validation: pd.DataFrame,
    folder: Path,
) -> bool:
    """Train, and write the model, its history and its summary to `folder`, which keeps an interrupted training's state;
    return whether this process is the one that wrote."""
    train = given.train
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = Network(given.model, targets, streams)
    standardise(network, training, readings, streams)
    if train.init is not None:
        checkpoint.warm_start(network, Path(train.init))
    loggers = [LOGGERS[name](given.model_dump()) for name in train.loggers]
    strategy = "ddp" if train.devices > 1 else "auto"
    fabric = Fabric(strategy=strategy, devices=train.devices, precision=train.precision, loggers=loggers)
    refuse_bfloat16(network, fabric.device.type, train.precision)
    if train.devices > 1:
        fabric.launch()  # from here on once in each process
        # statistics in common make all wait for one, that may have no clip for an encoder
        if fabric.device.type == "cuda" and given.model.missing == "drop":
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    corpora = sorted(set(training["corpus"]))
    newest = "" if set(corpora) <= set(SYNTHETIC) else newest_archive()
    trained_on = Clips(training, DATA, readings, streams, targets, train.seed)
    held_out = Clips(validation, DATA, readings, streams, targets)
    weights, history = loop.fit(
        fabric,
        network,
        trained_on,
        held_out,
        targets,
        folder,
        augmentation=train.augment.model_dump(),
        **train.model_dump(exclude={"augment", "shuffle_labels", "clips", "init", "devices", "loggers", "precision"}),
    )
    network.load_state_dict(weights)
    found = infer.predict(fabric, network, held_out, max(1, train.batch_size // train.accumulate), train.workers)
    fabric.barrier()
    for logger in loggers:
        logger.finalize("success")
    if fabric.global_rank == 0:
        loop.write_history(history, folder / HISTORY.name)
        (folder / TRAIN_METRICS.name).write_text(json.dumps(loop.summary(history), indent=2) + "\n")
        partial = folder / "model.partial"
        references = {
            name: reference(group, trained_on.targets[name], held_out.targets[name], found[name])
            for name, group in targets.items()
        }
        durations = training["duration"].dropna() if "duration" in training else training.index[:0]
        seconds = [float(durations.min()), float(durations.max())] if len(durations) else []
        subset = train.clips, train.seed
        seen = ranges(training, streams)
        about = {
            "hardware": described(fabric.device) + (f", {fabric.world_size} of it" if fabric.world_size > 1 else ""),
            "clips": {"training": len(training), "validation": len(validation)},
            "seed": train.seed,
            "newest_input": newest,
        }
        checkpoint.save(
            partial, weights, given.model, targets, streams, corpora, *subset, seconds, references, seen, about
        )
        resume.keep(partial, folder / MODEL.name)
        (folder / "last.pt").unlink()
    return fabric.global_rank == 0


def refuse_bfloat16(network: torch.nn.Module, device: str, precision: str) -> None:
    """Raise InputError for 3D convolutions in bfloat16 on a CPU: there PyTorch 2.11's gradients of their weights hold memory
    that was never written."""
    if (
        device == "cpu"
        and precision == "bf16-mixed"
        and any(isinstance(one, torch.nn.Conv3d) for one in network.modules())
    ):
        raise InputError(
            "params.yaml: train.precision = bf16-mixed; allowed for 3D convolutions on a CPU: 32-true. There PyTorch's"
            " gradients are wrong"
        )


def reference(group: TargetGroup, training: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> Reference:
    """Return what a group's predictions are held against: the training labels, and the errors on the validation clips, whose
    labels are `actual`; all (N, K) in units of the range."""
    with warnings.catch_warnings():  # a column that no training clip knows
        warnings.simplefilter("ignore", RuntimeWarning)
        quantiles = np.nanquantile(training, np.linspace(0, 1, 101), axis=0)
    widths = conformal.half_widths(actual, predicted) * group.span
    return Reference(torch.from_numpy(group.from_unit(quantiles)), torch.from_numpy(widths))


def ranges(training: pd.DataFrame, streams: Mapping[str, StreamInfo]) -> Ranges:
    """Return the lowest and the highest of each condition of the streams in the training clips."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in streams}
    for shard, rows in training.groupby("shard"):
        for name, of_stream in found.items():
            with shards.opened(DATA / name / f"{shard}.h5") as file:
                for record in (shards.of_group(file[clip]) for clip in rows["clip"]):
                    for what, value in {} if record.refused else base.load(name).statistics(record).items():
                        of_stream.setdefault(what, []).append(value)
    return {name: {what: (min(values), max(values)) for what, values in of.items()} for name, of in found.items() if of}


def standardise(
    network: Network, training: pd.DataFrame, readings: Mapping[str, Reading], streams: Mapping[str, StreamInfo]
) -> None:
    """Show the training clips to the encoders that take their numbers' mean and standard deviation from them."""
    for name, encoder in network.encoders.items():
        if hasattr(encoder, "standardise"):
            cast(Any, encoder).standardise(clips_read(name, training, readings, streams))


def clips_read(
    name: str, training: pd.DataFrame, readings: Mapping[str, Reading], streams: Mapping[str, StreamInfo]
) -> Iterator[dict[str, Steps]]:
    """Yield what the encoder `name` reads of each training clip, nothing drawn by chance."""
    data = Clips(training, DATA, {name: readings[name]}, streams, {})
    return (data[index].inputs[name] for index in range(len(data)))


def newest_archive() -> str:
    """Return when the newest file that data/archives.csv lists was last modified, in UTC; empty where that is not known.

    Raises InputError if it is no such list.
    """
    if not listing.LISTING.is_file():
        return ""
    return max((file.modified for file in listing.read(listing.LISTING).values()), default="")


def shuffled(table: pd.DataFrame, columns: list[str], seed: int) -> pd.DataFrame:
    """Return the clips with their targets, all of a clip together, dealt out at random."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table.assign(**{column: table[column].to_numpy()[order] for column in columns})


if __name__ == "__main__":
    command.run_stage(main)
