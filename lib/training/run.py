"""A complete training: from the settings and the clips to the model's file."""

import json
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.core import resume
from lib.core.artifacts import DATA, HISTORY, MODEL, TRAIN_METRICS
from lib.core.clips import SYNTHETIC
from lib.core.device import describe_device
from lib.core.errors import InputError, prefix_errors
from lib.core.targets import INTERVAL_LEVEL, TargetGroup
from lib.data.dataset import ClipDataset
from lib.data.shard_cache import read_clips
from lib.model import checkpoint, infer
from lib.model.checkpoint import LabelQuantiles, Ranges, TrainingSummary
from lib.model.committee import Committee
from lib.model.heads import HeadOutput
from lib.model.network import Network
from lib.scoring import conformal
from lib.sources import listing
from lib.streams import base
from lib.streams.base import StreamInfo
from lib.training import loop
from lib.training.committee import train_committee
from lib.training.data import TrainData
from lib.training.hooks import Checkpoint, History, Hook, Loggers, ProgressBar
from lib.training.prepare import TrainingJob, standardise
from lib.training.regressions import fit_paths
from lib.training.state import INITIAL, Row, TrainState, copy_weights

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric


def train(
    fabric: "Fabric", network: Network, data: TrainData, folder: Path, hooks: Sequence[Hook] = ()
) -> tuple[dict[str, Tensor], list[Row]]:
    """Return the weights of the best epoch and the history.

    `folder` stores the state after each epoch. An interrupted training resumes from there, and ends with the same result.
    hooks: called in addition to the checkpoint and the progress bar.
    """
    state = TrainState(fabric, network, data.settings, data.group_counts)
    path = folder / "last.pt"
    if path.exists():
        state.load(path)
    elif isinstance(network, Network) and len(network.paths):
        state.keep_initial(loop.validate(state, data)["validation_loss"])
    usual = [ProgressBar(state, next(iter(data.targets))), Checkpoint(path)]
    loop.fit(state, data, data.settings, [*usual, *hooks])
    return state.best, state.history


def train_model(job: TrainingJob, folder: Path) -> bool:
    """Train, and write the model, its history and its summary to `folder`.

    Return whether this process wrote them. Only one of several processes does.
    """
    from lightning_fabric import Fabric

    settings = job.sections.train
    strategy = "ddp" if settings.devices > 1 else "auto"
    fabric = Fabric(strategy=strategy, devices=settings.devices, precision=settings.precision)
    model: Network | Committee
    if job.sections.model.is_committee:
        model, history, weights = train_committee(fabric, job, folder, train_network)
        derived = {**job.derived, **weights}
        shutil.copyfile(folder / "member-1" / HISTORY.name, folder / HISTORY.name)
    else:
        model, history = train_network(fabric, job, folder)
        derived = {**job.derived}
    model.to(fabric.device)
    newest = find_newest_archive(job)
    held_out = ClipDataset(job.validation, DATA, model.settings_by_encoder, job.streams, job.targets)
    predicted = infer.predict_outputs(fabric, model, held_out, settings.part_size, settings.workers)
    fabric.barrier()
    if fabric.global_rank == 0:
        (folder / TRAIN_METRICS.name).write_text(json.dumps(summarise(history, derived), indent=2) + "\n")
        labels = ClipDataset(job.training, DATA, {}, {}, job.targets).targets
        videos = job.validation["video"].to_numpy()
        references = {
            name: make_reference(
                group, labels[name], held_out.targets[name], predicted[name], videos=videos, level=settings.interval
            )
            for name, group in job.targets.items()
        }
        provenance = {
            "hardware": describe_device(fabric.device)
            + (f", {fabric.world_size} of it" if fabric.world_size > 1 else ""),
            "clips": {"training": len(job.training), "validation": len(job.validation)},
            "seed": settings.seed,
            "interval": settings.interval,
            "newest_input": newest,
        }
        save_model(job, copy_weights(model), references, provenance, folder / MODEL.name)
        for state in (folder / "last.pt", *folder.glob("*/last.pt")):
            state.unlink(missing_ok=True)
    return fabric.global_rank == 0


def train_network(fabric: "Fabric", job: TrainingJob, folder: Path, log: bool = True) -> tuple[Network, list[Row]]:
    """Return the network with the weights of its best epoch, and its history, which is also written to `folder`.

    log: whether the loggers of train.loggers get the epochs.
    """
    settings = job.sections.train
    folder.mkdir(parents=True, exist_ok=True)
    network = build_network(job)
    with prefix_errors("train."):
        check_precision(network, fabric.device.type, settings.precision)
    if settings.devices > 1:
        fabric.launch()  # from here on once in each process
        # shared statistics make all processes wait for one that may have no clip for an encoder
        if fabric.device.type == "cuda" and job.sections.model.missing == "drop":
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    trained_on = ClipDataset(
        job.training,
        DATA,
        network.settings_by_encoder,
        job.streams,
        job.targets,
        settings.seed,
        jitter=settings.augment.jitter,
    )
    held_out = ClipDataset(job.validation, DATA, network.settings_by_encoder, job.streams, job.targets)
    data = TrainData(trained_on, held_out, job.targets, settings, network.settings_by_encoder, groups=job.groups)
    loggers = Loggers(settings.loggers if log else (), job.sections.model_dump())
    weights, history = train(fabric, network, data, folder, [loggers, History(folder / HISTORY.name)])
    network.load_state_dict(weights)
    return network, history


def publish_model(folder: Path) -> None:
    """Copy the files of a finished training to the places that DVC watches, and remove earlier finished trainings."""
    for out in (MODEL, HISTORY, TRAIN_METRICS):
        out.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / out.name, out)
    for other in folder.parent.iterdir():
        if other != folder and (other / MODEL.name).exists():
            shutil.rmtree(other)


def build_network(job: TrainingJob) -> Network:
    """Return the network before training: initialised by the seed, or with the weights of train.init."""
    torch.manual_seed(job.sections.train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = Network.from_settings(job.sections.model, job.targets, job.streams)
    standardise(network, job.training, network.settings_by_encoder, job.streams)
    fit_paths(network, job.training, job.targets, job.streams)
    if job.sections.train.init is not None:
        with prefix_errors("train."):
            checkpoint.warm_start(network, Path(job.sections.train.init), job.targets)
    return network


def save_model(
    job: TrainingJob,
    weights: Mapping[str, Tensor],
    references: Mapping[str, LabelQuantiles],
    provenance: Mapping[str, object],
    path: Path,
) -> None:
    """Write the model's file, with what predictions are compared with."""
    durations = job.training["duration"].dropna() if "duration" in job.training else job.training.index[:0]
    training = TrainingSummary(
        sorted(set(job.training["corpus"])),
        clips=job.sections.train.clips,
        seed=job.sections.train.seed,
        seconds=[float(durations.min()), float(durations.max())] if len(durations) else [],
        references=references,
        ranges=measure_ranges(job.training, job.streams),
    )
    partial = path.with_name("model.partial")
    checkpoint.save(
        partial, weights, job.sections.model, job.targets, job.streams, training=training, provenance=provenance
    )
    resume.finish_file(partial, path)


def summarise(history: Sequence[Row], derived: Mapping[str, float]) -> Row:
    """Return the number of epochs, the best epoch and its losses, the seconds of all, and clips per second.

    The best epoch is 0 if no epoch has a lower validation loss than the linear path alone; the training loss is then that
    of the best epoch. The numbers of `derived` follow.
    """
    best = min(history, key=lambda row: row["validation_loss"])
    initial = best.get(INITIAL, math.inf)
    return {
        "epochs": len(history),
        "best_epoch": best["epoch"] if best["validation_loss"] < initial else 0,
        "training_loss": best["training_loss"],
        "validation_loss": min(best["validation_loss"], initial),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "clips_per_second": float(np.median([row["clips_per_second"] for row in history])),
        **derived,
    }


def check_precision(network: torch.nn.Module, device: str, precision: str) -> None:
    """Raise InputError for 3D convolutions in bfloat16 on a CPU: there PyTorch 2.11's gradients of their weights contain
    uninitialised memory."""
    if (
        device == "cpu"
        and precision == "bf16-mixed"
        and any(isinstance(module, torch.nn.Conv3d) for module in network.modules())
    ):
        raise InputError(
            "precision = bf16-mixed; allowed for 3D convolutions on a CPU: 32-true, because PyTorch's bfloat16"
            " gradients of these are wrong"
        )


def make_reference(
    group: TargetGroup,
    training: np.ndarray,
    actual: np.ndarray,
    predicted: HeadOutput,
    videos: np.ndarray,
    level: float = INTERVAL_LEVEL,
) -> LabelQuantiles:
    """Return what a group's predictions are compared with: the training labels, and the errors on the validation clips,
    whose labels are `actual`; all (N, K) in units of the range. videos (N,): of the validation clips. level: of the
    prediction intervals."""
    with warnings.catch_warnings():  # a column that no training clip knows
        warnings.simplefilter("ignore", RuntimeWarning)
        quantiles = np.nanquantile(training, np.linspace(0, 1, 101), axis=0)
    widths = conformal.compute_half_widths(actual, predicted.mean, videos, predicted.scale, level)
    if predicted.scale is None:  # otherwise multiples of the scale, without a unit
        widths = widths * group.span
    return LabelQuantiles(torch.from_numpy(group.from_unit(quantiles)), torch.from_numpy(widths))


def measure_ranges(training: pd.DataFrame, streams: Mapping[str, StreamInfo]) -> Ranges:
    """Return the lowest and the highest value of each input statistic of the streams in the training clips."""
    values_by_stream: dict[str, dict[str, list[float]]] = {name: {} for name in streams}
    for shard, rows in training.groupby("shard"):
        for name, by_statistic in values_by_stream.items():
            for record in read_clips(DATA, name, str(shard), rows["clip"]):
                for statistic, value in {} if record.rejected else base.load(name).statistics(record).items():
                    by_statistic.setdefault(statistic, []).append(value)
    return {
        name: {statistic: (min(values), max(values)) for statistic, values in by_statistic.items()}
        for name, by_statistic in values_by_stream.items()
        if by_statistic
    }


def find_newest_archive(job: TrainingJob) -> str:
    """Return when the newest file that data/archives.csv lists was last modified, in UTC; empty where that is not known, or
    where all clips are synthetic. Raises InputError if the list can't be read."""
    if set(job.training["corpus"]) <= set(SYNTHETIC) or not listing.LISTING.is_file():
        return ""
    return max((file.modified for file in listing.read_list(listing.LISTING).values()), default="")
