"""The training loop: any number of processes, early stopping on the validation loss, resumable after each epoch."""

import csv
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from lib.core import resume
from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.data.augment import augment, draw
from lib.data.batch import Sample
from lib.data.dataset import Clips, kind_of
from lib.data.loading import gather, loader
from lib.model.heads import Prediction
from lib.model.infer import predictions
from lib.model.network import Network
from lib.scoring.scores import scores
from lib.training import schedules
from lib.training.losses import LOSSES, WEIGHTINGS, counted, of_columns


def fit(
    fabric: Fabric,
    network: Network,
    training: Clips,
    validation: Clips,
    targets: Targets,
    folder: Path,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    accumulate: int,
    mix: Mapping[str, float],
    label_weighting: str,
    learning_rate: Mapping[str, Any],
    weight_decay: float,
    decay_all: bool,
    ema: float | None,
    schedule: str,
    warmup: int,
    patience: int,
    clip_norm: float,
    workers: int,
    augmentation: Mapping[str, Any],
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Return the best epoch's weights, by validation loss, and a row of history for each epoch.

    The loss is the sum over target groups of weight times loss, each over the targets that are known. AdamW with the rates
    `learning_rate["encoders"][NAME]` for the encoders and `learning_rate["head"]` for the rest, times `schedules.factor`. A
    step takes `batch_size` clips over all processes, in `accumulate` parts, which weigh by their known targets; an epoch has
    the clips of each corpus as often as `mix` says. With `ema` what is validated and returned are the weights' exponential
    moving average over the steps, of that decay. `folder` keeps the last epoch's state: an interrupted call goes on from
    there to the same result. Raises InputError on a loss that is not finite, or if memory runs out.
    """
    world, rank = fabric.world_size, fabric.global_rank
    if batch_size % (world * accumulate):
        raise InputError(
            f"params.yaml: train.batch_size = {batch_size}; allowed: a multiple of train.devices times train.accumulate ="
            f" {world} x {accumulate}"
        )
    optimizer = torch.optim.AdamW(_rated(network, learning_rate, decay_all), weight_decay=weight_decay)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    checkpoint = folder / "last.pt"
    model, optimizer = fabric.setup(network, optimizer)
    average = None if ema is None else AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True)
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = state["history"], state["best"]
        if average is not None:
            average.load_state_dict(state["average"])
    weighting = WEIGHTINGS[label_weighting]
    weights = {
        name: torch.from_numpy(weighting(labels) * of_columns(targets[name], labels)).float()
        for name, labels in training.targets.items()
    }
    known = {name: counted(targets[name].loss, labels) for name, labels in training.targets.items()}
    kinds = {one: kind_of(one) for reading in network.readings.values() for one in reading.reads}
    corpora = training.table["corpus"].to_numpy(str)

    bar = tqdm(
        range(len(history), epochs),
        initial=len(history),
        total=epochs,
        desc="train",
        unit="epoch",
        disable=None if rank == 0 else True,
    )
    for epoch in bar:
        past = [row["validation_loss"] for row in history]
        if schedules.epochs_since_best(past) >= patience:
            break
        started, waited = time.perf_counter(), 0.0
        training.epoch = epoch
        torch.manual_seed(seed * 100_003 + epoch * 1009 + rank)  # dropout
        chance = torch.Generator().manual_seed(seed * 100_003 + epoch)  # the same in all processes
        order = schedules.batches(schedules.mixed(corpora, mix, chance), batch_size, chance)
        if not order:
            raise InputError(f"params.yaml: train.mix = {dict(mix)} leaves no clip of {len(training)}; raise it")
        mine = [part[rank::world] for part in schedules.parts(order, accumulate)]
        model.train()
        losses: dict[str, list[float]] = {name: [] for name in targets}
        made: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in targets}  # actual and predicted
        batches = _timed(loader(fabric, training, mine, workers))
        for step, members in enumerate(order):
            factor = schedules.factor(schedule, epoch + step / len(order), warmup, epochs, past, len(order))
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            drawn, begin = draw(len(members), generator=chance, **augmentation), 0
            for part in schedules.parts([members], accumulate):
                batch, seconds = next(batches)
                waited += seconds
                end = begin + len(part)
                draws = drawn.of(slice(begin + rank, end, world))
                last, begin = end == len(members), end
                try:
                    with fabric.no_backward_sync(model, enabled=not last):
                        output = model(augment(batch, draws, kinds).inputs)
                        total = output.penalty * len(part) / len(members)
                        for name, group_ in targets.items():
                            weight = weights[name][batch.index.cpu()].to(fabric.device)
                            value = LOSSES[group_.loss](output.predictions[name], batch.targets[name], weight)
                            share = world * known[name][part[rank::world]].sum() / max(known[name][members].sum(), 1)
                            total = total + group_.weight * value * share
                            made[name].append((batch.targets[name], output.predictions[name].mean.detach()))
                            if share:
                                losses[name].append(value.item())
                        _refuse_not_finite(total, epoch, training, batch.index)
                        fabric.backward(total)
                except torch.OutOfMemoryError as error:
                    raise InputError(
                        f"the GPU's memory does not suffice ({str(error).split('.')[0]}); lower the steps of"
                        " model.encoders, raise train.accumulate, or take train.precision = 16-mixed in params.yaml"
                    ) from None
            fabric.clip_gradients(model, optimizer, max_norm=clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                average.update_parameters(network)
        trained = time.perf_counter() - started
        everywhere = gather(fabric, losses)
        learnt = gather(fabric, {name: [_stacked(side) for side in zip(*of, strict=True)] for name, of in made.items()})
        with _averaged(network, average):
            found = predictions(fabric, model, validation, max(1, batch_size // accumulate), workers)
        row = {
            "epoch": epoch + 1,
            "training_loss": sum(
                group_.weight * float(np.mean([np.mean(of[name]) for of in everywhere if of[name]] or [0.0]))
                for name, group_ in targets.items()
            ),
            **_accuracies(targets, learnt),
            **_validated(targets, found, validation),
            "learning_rate": learning_rate["head"] * factor,
            "seconds": round(time.perf_counter() - started, 2),
            "clips_per_second": round(sum(map(len, order)) / trained, 2),
            "waiting": round(waited / trained, 3),  # share of the time in which no batch was there
        } | _gpu(fabric)
        if not math.isfinite(row["validation_loss"]):
            raise InputError(
                f"the validation loss is {row['validation_loss']} in epoch {epoch + 1}; lower train.learning_rate in"
                " params.yaml. The epochs before are kept"
            )
        history.append(row)
        if schedules.epochs_since_best([one["validation_loss"] for one in history]) == 0:
            kept = network if average is None else average.module
            best = {key: value.detach().cpu().clone() for key, value in kept.state_dict().items()}
        shown = {
            "training": f"{row['training_loss']:.4f}",
            "validation": f"{row['validation_loss']:.4f}",
            "spread": f"{row[f'validation_spread_{next(iter(targets))}']:.2f}",
        }
        bar.set_postfix(shown)
        fabric.log_dict({key: value for key, value in row.items() if key != "epoch"}, step=epoch + 1)
        if rank == 0:
            logging.getLogger("train").info("epoch %d of %d: %s", epoch + 1, epochs, shown)
            partial = checkpoint.with_suffix(".partial")
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": history,
                "best": best,
            } | ({} if average is None else {"average": average.state_dict()})
            torch.save(state, partial)
            resume.keep(partial, checkpoint)
    return best, history


@contextmanager
def _averaged(network: Network, average: AveragedModel | None) -> Iterator[None]:
    """Give the network the averaged weights for a while."""
    if average is None:
        yield
        return
    own = {key: value.detach().clone() for key, value in network.state_dict().items()}
    network.load_state_dict(average.module.state_dict())
    yield
    network.load_state_dict(own)


def _validated(targets: Targets, predicted: Mapping[str, Prediction], validation: Clips) -> dict[str, float]:
    """Return the validation loss, and of each group accuracy, R², CCC, and the predictions' spread over the labels': near 0
    after a collapse to the mean."""
    total, found = 0.0, {}
    for name, group in targets.items():
        actual = validation.targets[name].astype(np.float32).astype(float)
        known, ones = map(torch.from_numpy, (actual, np.ones_like(actual)))
        tensors = Prediction(*(None if part is None else torch.from_numpy(part) for part in predicted[name]))
        total += group.weight * LOSSES[group.loss](tensors, known, ones).item()
        scored = scores(actual, predicted[name].mean, group.columns, span=1.0)
        for score in ("accuracy", "r2", "ccc", "std_ratio"):
            value = scored[score]["mean"]
            found[f"validation_{'spread' if score == 'std_ratio' else score}_{name}"] = (
                math.nan if value is None else value
            )
    return {"validation_loss": total} | found


def _accuracies(targets: Targets, learnt: Sequence[Mapping[str, list[np.ndarray]]]) -> dict[str, float]:
    """Return of each group the accuracy of an epoch's predictions, made with augmentation and dropout by weights that change
    from step to step: every process' actual and predicted values, (N, K) each."""
    found = {}
    for name, group in targets.items():
        actual, predicted = (np.concatenate(of) for of in zip(*(one[name] for one in learnt), strict=True))
        value = scores(actual, predicted, group.columns, span=1.0)["accuracy"]["mean"]
        found[f"training_accuracy_{name}"] = math.nan if value is None else value
    return found


def _stacked(batches: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(batches)).cpu().double().numpy()


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write one CSV row an epoch."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)


def summary(history: list[dict[str, float]]) -> dict[str, float]:
    """Return epochs, the kept one, its losses, the seconds of all, and clips a second."""
    kept = min(history, key=lambda row: row["validation_loss"])
    return {
        "epochs": len(history),
        "kept_epoch": kept["epoch"],
        "training_loss": kept["training_loss"],
        "validation_loss": kept["validation_loss"],
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "clips_per_second": float(np.median([row["clips_per_second"] for row in history])),
    }


def _rated(network: Network, learning_rate: Mapping[str, Any], decay_all: bool) -> list[dict[str, Any]]:
    """Return AdamW's groups of parameters: each encoder's, and the rest as head's; unless `decay_all` those of norms, biases
    and embeddings (1, N, D) apart, which do not decay. Raises InputError if one has no rate."""
    rates = {**learning_rate["encoders"], "head": learning_rate["head"]}
    groups: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in network.parameter_groups():
        groups.setdefault(name, []).append(parameter)
    if lacking := groups.keys() - rates.keys():
        raise InputError(
            f"params.yaml: train.learning_rate.encoders lacks {min(lacking)}, which model.use has; it has"
            f" {', '.join(learning_rate['encoders'])}"
        )
    found: list[dict[str, Any]] = []
    for name, members in groups.items():
        kept = [] if decay_all else [one for one in members if one.dim() < 2 or (one.dim() == 3 and len(one) == 1)]
        apart = set(map(id, kept))
        decaying = [one for one in members if id(one) not in apart]
        own = {"lr": rates[name], "initial_lr": rates[name]}
        found += [{"params": decaying, **own}] if decaying else []
        found += [{"params": kept, **own, "weight_decay": 0.0}] if kept else []
    return found


def _timed(loader: Any) -> Iterator[tuple[Sample, float]]:
    """Yield each batch with the seconds that it was waited for."""
    batches = iter(loader)
    while True:
        started = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch, time.perf_counter() - started


def _refuse_not_finite(loss: Tensor, epoch: int, training: Clips, index: Tensor) -> None:
    if not loss.isfinite():
        names = training.table["clip"].iloc[index.tolist()].tolist()
        raise InputError(
            f"the loss is {loss.item()} in epoch {epoch + 1} at clips {', '.join(names)}; lower train.learning_rate in"
            " params.yaml. The epochs before are kept"
        )


def _gpu(fabric: Fabric) -> dict[str, float]:
    """Return the peak of allocated memory, and how busy the GPU is where nvidia-ml-py can tell."""
    if fabric.device.type != "cuda":
        return {}
    figures = {"gpu_peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3)}
    try:
        return figures | {"gpu_percent": float(torch.cuda.utilization(fabric.device))}
    except (ModuleNotFoundError, RuntimeError):  # no nvidia-ml-py, or a driver that does not tell
        return figures
