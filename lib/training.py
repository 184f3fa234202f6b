"""The training loop: early stopping on the validation loss, resumable after each epoch."""

import csv
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from lib.augment import augment
from lib.dataset import Clips, collate
from lib.errors import InputError
from lib.scores import scores


def fit(
    network: nn.Module,
    training: Clips,
    validation: Clips,
    folder: Path,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup: int,
    patience: int,
    clip_norm: float,
    precision: Any,
    workers: int,
    augmentation: Mapping[str, Any],
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Minimise the mean squared error; return the best epoch's weights and a row of history for each epoch.

    AdamW; the learning rate rises linearly for `warmup` epochs and falls along a cosine. `folder` keeps the last epoch's
    state: an interrupted call goes on from there to the same result. Raises InputError on a loss that is not finite.
    """
    fabric = Fabric(accelerator="auto", devices=1, precision=precision)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=learning_rate,
        weight_decay=weight_decay,
    )
    model, optimizer = fabric.setup(network, optimizer)
    loader = DataLoader(
        training,
        batch_size,
        shuffle=True,
        drop_last=len(training) > batch_size,  # a last batch of one would upset batch norm
        num_workers=workers,
        collate_fn=collate,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator(),
    )
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    checkpoint = folder / "last.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = state["history"], state["best"]
        torch.set_rng_state(state["random"])

    bar = tqdm(
        range(len(history), epochs), initial=len(history), total=epochs, desc="train", unit="epoch", disable=None
    )
    for epoch in bar:
        if _epochs_since_best(history) >= patience:
            break
        started = time.perf_counter()
        training.epoch = epoch
        loader.generator.manual_seed(seed * 100_003 + epoch)
        model.train()
        losses = []
        for step, batch in enumerate(fabric.setup_dataloaders(loader, use_distributed_sampler=False)):
            rate = learning_rate * _schedule(epoch + step / len(loader), warmup, epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            predicted, _ = model(augment(batch, **augmentation))
            loss = nn.functional.mse_loss(predicted, batch["traits"])
            if not loss.isfinite():
                names = training.table["clip"].iloc[batch["index"].tolist()].tolist()
                raise InputError(
                    f"the loss is {loss.item()} in epoch {epoch + 1} at clips {', '.join(names)}; lower train.learning_rate"
                )
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=clip_norm)
            optimizer.step()
            losses.append(loss.item())
        actual, predicted_values = predict(fabric, model, validation, batch_size, workers)
        scored = scores(actual, predicted_values)
        row = {
            "epoch": epoch + 1,
            "training_loss": float(np.mean(losses)),
            "validation_loss": scored["mse"]["mean"] or math.nan,
            "validation_accuracy": scored["accuracy"]["mean"] or math.nan,
            "validation_ccc": scored["ccc"]["mean"] or 0.0,
            # predictions' spread over the labels': near 0 after a collapse to the mean
            "validation_spread": float((predicted_values.std(0) / actual.std(0)).mean()),
            "learning_rate": rate,
            "seconds": round(time.perf_counter() - started, 2),
            "clips_per_second": round(len(training) / (time.perf_counter() - started), 2),
        }
        if fabric.device.type == "cuda":
            row["gpu_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        history.append(row)
        if _epochs_since_best(history) == 0:
            best = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
        shown = {"training": f"{row['training_loss']:.4f}", "validation": f"{row['validation_loss']:.4f}"}
        bar.set_postfix(shown)
        logging.getLogger("train").info("epoch %d of %d: losses %s", epoch + 1, epochs, shown)
        partial = checkpoint.with_suffix(".partial")
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": history,
                "best": best,
                "random": torch.get_rng_state(),
            },
            partial,
        )
        partial.rename(checkpoint)
    return best, history


@torch.no_grad()
def predict(
    fabric: Fabric, model: nn.Module, clips: Clips, batch_size: int, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the actual and the predicted traits of `clips`, (N, 5) each, in the table's order."""
    model.eval()
    loader = DataLoader(clips, batch_size, num_workers=workers, collate_fn=collate)
    actual, predicted = [], []
    batches: Any = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    for batch in batches:
        predicted.append(model(batch)[0].float().cpu())
        actual.append(batch["traits"].cpu())
    return torch.cat(actual).double().numpy(), torch.cat(predicted).double().numpy()


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write one CSV row an epoch."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)


def _schedule(epoch: float, warmup: int, epochs: int) -> float:
    """Factor of the learning rate at a fraction of an epoch."""
    if epoch < warmup:
        return (epoch + 0.1) / (warmup + 0.1)
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1)))


def _epochs_since_best(history: list[dict[str, float]]) -> int:
    losses = [row["validation_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
