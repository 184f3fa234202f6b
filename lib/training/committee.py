"""Train a committee: several networks with different seeds and, with fusion `stacked`, its regressions and their weights."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from lib.core.artifacts import DATA
from lib.core.errors import SettingError
from lib.data.dataset import ClipDataset
from lib.model import infer
from lib.model.committee import Committee, build_model
from lib.model.network import Network
from lib.model.settings import STACKED
from lib.regression.ridge import FOLDS, assign_folds
from lib.training.prepare import TrainingJob
from lib.training.regressions import check_videos, fit_stack, read_numbers
from lib.training.state import Row

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric


class TrainNetwork(Protocol):
    """A function that trains the network of a job in a folder, and returns it with its history.

    The first network is logged to the loggers of params.yaml.
    """

    def __call__(self, fabric: "Fabric", job: TrainingJob, folder: Path, log: bool) -> tuple[Network, list[Row]]: ...


class TrainedCommittee(NamedTuple):
    """history: of the first network. weights: mean weight of each part of the stacks, for metrics/train.json."""

    model: Committee
    history: list[Row]
    weights: dict[str, float]


def train_committee(fabric: "Fabric", job: TrainingJob, folder: Path, train_network: TrainNetwork) -> TrainedCommittee:
    """Train all networks, one after the other, and fit the stacks to the training clips.

    The networks have the seeds train.seed, train.seed + 1, ... The stack's weights are fitted to out-of-fold predictions: of
    regressions, and of a network for each fold that did not see the fold's videos. Every network stops early on the
    validation clips. An interrupted training continues with the network that was interrupted. Raises SettingError for
    several devices.
    """
    settings, log = job.sections, logging.getLogger("train")
    if settings.train.devices > 1:
        raise SettingError(
            f"train.devices = {settings.train.devices} with model.members = {settings.model.members} and model.fusion ="
            f" {settings.model.fusion}; allowed: 1 for several networks; set train.devices to 1"
        )
    is_stacked = settings.model.fusion == STACKED
    if is_stacked:
        check_videos(job.training["video"].to_numpy())
    total = settings.model.members + FOLDS * is_stacked
    networks, histories = [], []
    for number, member in enumerate(_members(job), 1):
        log.info("network %d of %d", number, total)
        network, history = train_network(fabric, member, folder / f"member-{number}", number == 1)
        networks.append(network.cpu())
        histories.append(history)
    model = build_model(settings.model, job.targets, job.streams)
    assert isinstance(model, Committee)
    for built, trained in zip(model.networks, networks, strict=True):
        built.load_state_dict(trained.state_dict())
    weights = _stack(fabric, job, folder, train_network, model) if is_stacked else {}
    return TrainedCommittee(model, histories[0], weights)


def _members(job: TrainingJob) -> Iterator[TrainingJob]:
    """Yield the job of each network."""
    for member in range(job.sections.model.members):
        train = job.sections.train.model_copy(update={"seed": job.sections.train.seed + member})
        sections = job.sections.model_copy(update={"train": train, "model": job.sections.model.make_member_settings()})
        yield replace(job, sections=sections)


def _stack(
    fabric: "Fabric", job: TrainingJob, folder: Path, train_network: TrainNetwork, model: Committee
) -> dict[str, float]:
    """Fit the stacks of `model`; return the mean weight of each part over the targets."""
    folds = assign_folds(job.training["video"].to_numpy())
    first, log = next(_members(job)), logging.getLogger("train")
    out_of_fold = {name: np.full((len(folds), len(group.columns)), np.nan) for name, group in job.targets.items()}
    for fold in range(FOLDS):
        log.info("network of fold %d of %d", fold + 1, FOLDS)
        rest, held_out = (job.training[rows].reset_index(drop=True) for rows in (folds != fold, folds == fold))
        network, _ = train_network(fabric, replace(first, training=rest), folder / f"fold-{fold}", False)
        clips = ClipDataset(held_out, DATA, network.settings_by_encoder, job.streams, {})
        settings = job.sections.train
        predicted = infer.predict(fabric, network, clips, settings.part_size, settings.workers)
        for name, values in predicted.items():
            out_of_fold[name][folds == fold] = values
    numbers = read_numbers(job.training, model.settings_by_encoder, job.streams)
    labels = ClipDataset(job.training, DATA, {}, {}, job.targets).targets
    weights: dict[str, float] = {}
    for name in job.targets:
        trees = job.sections.model.stack.trees
        videos = job.training["video"].to_numpy()
        fitted = fit_stack(numbers, labels[name], videos, trees=trees, others=out_of_fold[name])
        model.stacks[name].set(**fitted.tensors)  # type: ignore[operator]
        weights |= {
            f"weight_{name}.{part}": round(float(weight), 4)
            for part, weight in zip(fitted.names, fitted.weights.mean(1), strict=True)
        }
    return weights
