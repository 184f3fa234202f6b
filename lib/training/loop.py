"""The training loop: any number of processes, early stopping on the validation loss, resumable after each epoch."""

import csv
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from lib.core import resume
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.data.augment import augment, draw
from lib.data.dataset import Clips, collate
from lib.scoring.scores import scores
from lib.training.losses import LOSSES, WEIGHTINGS

_PLATEAU = 3  # epochs without a better validation loss after which the plateau schedule halves the rates


def fit(
    fabric: Fabric,
    network: nn.Module,
    training: Clips,
    validation: Clips,
    folder: Path,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    accumulate: int,
    loss: str,
    label_weighting: str,
    learning_rate: Mapping[str, float],
    weight_decay: float,
    schedule: str,
    warmup: int,
    patience: int,
    clip_norm: float,
    workers: int,
    augmentation: Mapping[str, Any],
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Return the best epoch's weights, by validation loss, and a row of history for each epoch.

    AdamW with the rates `learning_rate[NAME]` for the streams of that name and `learning_rate["head"]` for the rest; they
    rise linearly for `warmup` epochs, then follow `schedule`: "cosine" falls to 0, "plateau" is halved when the validation
    loss has not improved for three epochs. A step takes `batch_size` clips over all processes, in `accumulate` parts.
    `folder` keeps the last epoch's state: an interrupted call goes on from there to the same result.
    Raises InputError on a loss that is not finite, or if memory runs out.
    """
    world, rank = fabric.world_size, fabric.global_rank
    if batch_size % (world * accumulate):
        raise InputError(
            f"params.yaml: train.batch_size = {batch_size}; allowed: a multiple of train.devices times train.accumulate ="
            f" {world} x {accumulate}"
        )
    optimizer = torch.optim.AdamW(_groups(network, learning_rate), weight_decay=weight_decay)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    checkpoint = folder / "last.pt"
    model, optimizer = fabric.setup(network, optimizer)
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = state["history"], state["best"]
    weights = torch.from_numpy(WEIGHTINGS[label_weighting](training.labels())).float()

    bar = tqdm(
        range(len(history), epochs),
        initial=len(history),
        total=epochs,
        desc="train",
        unit="epoch",
        disable=None if rank == 0 else True,
    )
    for epoch in bar:
        if _epochs_since_best(history) >= patience:
            break
        started, waited = time.perf_counter(), 0.0
        training.epoch = epoch
        torch.manual_seed(seed * 100_003 + epoch * 1009 + rank)  # dropout
        chance = torch.Generator().manual_seed(seed * 100_003 + epoch)  # the same in all processes
        order = _batches(len(training), batch_size, chance)
        loader = _loader(fabric, training, [part[rank::world] for part in _parts(order, accumulate)], workers)
        model.train()
        losses: list[float] = []
        batches = _timed(loader)
        for step, members in enumerate(order):
            factor = _factor(schedule, epoch + step / len(order), warmup, epochs, history)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            drawn, begin = draw(len(members), generator=chance, **augmentation), 0
            for part in _parts([members], accumulate):
                batch, seconds = next(batches)
                waited += seconds
                end = begin + len(part)
                draws = drawn.of(slice(begin + rank, end, world))
                last, begin = end == len(members), end
                try:
                    with fabric.no_backward_sync(model, enabled=not last):
                        predicted, _ = model(augment(batch, draws))
                        actual = batch["scores"][:, : predicted.shape[1]]
                        weight = weights[batch["index"].cpu(), : predicted.shape[1]].to(predicted.device)
                        value = LOSSES[loss](predicted, actual, weight)
                        _refuse_not_finite(value, epoch, training, batch["index"])
                        fabric.backward(value * (len(part) / len(members)))
                except torch.OutOfMemoryError as error:
                    raise InputError(
                        f"the GPU's memory does not suffice ({str(error).split('.')[0]}); lower model.static.frames, raise"
                        " train.accumulate, or take train.precision = 16-mixed in params.yaml"
                    ) from None
                losses.append(value.item())
            fabric.clip_gradients(model, optimizer, max_norm=clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        trained = time.perf_counter() - started
        actual_values, predicted_values = predict(fabric, model, validation, max(1, batch_size // accumulate), workers)
        scored = scores(actual_values[:, : len(TRAITS)], predicted_values[:, : len(TRAITS)])
        validated = LOSSES[loss](*map(torch.from_numpy, (predicted_values, actual_values, np.ones_like(actual_values))))
        row = {
            "epoch": epoch + 1,
            "training_loss": float(np.mean([np.mean(of_rank) for of_rank in _gather(fabric, losses)])),
            "validation_loss": validated.item(),
            "validation_accuracy": scored["accuracy"]["mean"] or math.nan,
            "validation_r2": scored["r2"]["mean"] or 0.0,
            "validation_ccc": scored["ccc"]["mean"] or 0.0,
            # predictions' spread over the labels': near 0 after a collapse to the mean
            "validation_spread": float((predicted_values.std(0) / actual_values.std(0)).mean()),
            "learning_rate": learning_rate["head"] * factor,
            "seconds": round(time.perf_counter() - started, 2),
            "clips_per_second": round(len(training) / trained, 2),
            "waiting": round(waited / trained, 3),  # share of the time in which no batch was there
        } | _gpu(fabric)
        history.append(row)
        if _epochs_since_best(history) == 0:
            best = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
        shown = {
            "training": f"{row['training_loss']:.4f}",
            "validation": f"{row['validation_loss']:.4f}",
            "spread": f"{row['validation_spread']:.2f}",
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
            }
            torch.save(state, partial)
            resume.keep(partial, checkpoint)
    return best, history


@torch.no_grad()
def predict(
    fabric: Fabric, model: nn.Module, clips: Clips, batch_size: int, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the actual and the predicted scores of `clips`, (N, 5 or 6) each, in the table's order, in every process.

    Each process predicts its own share; no clip is counted twice.
    """
    model.eval()
    mine = list(range(len(clips)))[fabric.global_rank :: fabric.world_size]
    parts = [mine[at : at + batch_size] for at in range(0, len(mine), batch_size)]
    found = [
        (batch["index"].cpu().numpy(), batch["scores"].cpu().numpy(), model(batch)[0].float().cpu().numpy())
        for batch in _loader(fabric, clips, parts, workers)
    ]
    everywhere = [one for of_rank in _gather(fabric, found) for one in of_rank]
    index, actual, predicted = (np.concatenate(values) for values in zip(*everywhere, strict=True))
    order = np.argsort(index)
    return actual[order, : predicted.shape[1]].astype(float), predicted[order].astype(float)


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write one CSV row an epoch."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)


def _groups(network: nn.Module, learning_rate: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return AdamW's groups: each stream's backbone, and the rest as head."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            stream = name.split(".")[1] if name.startswith("streams.") else "head"
            groups.setdefault(stream, []).append(parameter)
    return [
        {"params": members, "lr": learning_rate[name], "initial_lr": learning_rate[name]}
        for name, members in groups.items()
    ]


def _batches(count: int, size: int, chance: torch.Generator) -> list[list[int]]:
    """Return an epoch's batches of clips in random order; a last batch that isn't full is left out, if it isn't the only
    one: batch norm would suffer from a batch of one."""
    order = torch.randperm(count, generator=chance).tolist()
    whole = max(size, count - count % size)
    return [order[at : at + size] for at in range(0, min(whole, count), size)]


def _parts(batches: Sequence[list[int]], accumulate: int) -> list[list[int]]:
    """Divide each batch into up to `accumulate` parts of equal size."""
    divided = []
    for members in batches:
        size = math.ceil(len(members) / accumulate)
        divided += [members[at : at + size] for at in range(0, len(members), size)]
    return divided


def _loader(fabric: Fabric, clips: Clips, parts: list[list[int]], workers: int) -> Any:
    loader = DataLoader(
        clips,
        batch_sampler=parts,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator(),
    )
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def _timed(loader: Any) -> Iterator[tuple[dict[str, Tensor], float]]:
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


def _gather(fabric: Fabric, value: Any) -> list[Any]:
    """Return every process's value, in all of them."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _gpu(fabric: Fabric) -> dict[str, float]:
    """Return the peak of allocated memory, and how busy the GPU is where nvidia-ml-py can tell."""
    if fabric.device.type != "cuda":
        return {}
    figures = {"gpu_peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3)}
    try:
        return figures | {"gpu_percent": float(torch.cuda.utilization(fabric.device))}
    except (ModuleNotFoundError, RuntimeError):  # no nvidia-ml-py, or a driver that does not tell
        return figures


def _factor(schedule: str, epoch: float, warmup: int, epochs: int, history: list[dict[str, float]]) -> float:
    """Factor of the learning rates at a fraction of an epoch."""
    if epoch < warmup:
        return (epoch + 0.1) / (warmup + 0.1)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1)))
    factor, best, since = 1.0, math.inf, 0
    for row in history:
        since = 0 if row["validation_loss"] < best else since + 1
        best = min(best, row["validation_loss"])
        if since == _PLATEAU:
            factor, since = factor / 2, 0
    return factor


def _epochs_since_best(history: list[dict[str, float]]) -> int:
    losses = [row["validation_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
