"""Predictions of a trained or a training network."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from lib.data.batch import Sample
from lib.data.dataset import ClipDataset
from lib.data.loading import gather, make_loader
from lib.model.heads import Prediction


def predict(
    fabric: Fabric,
    model: nn.Module,
    clips: ClipDataset | Sequence[Sample],
    batch_size: int,
    workers: int,
    bar: str | None = None,
) -> dict[str, np.ndarray]:
    """Return the means (N, K) of `predictions`."""
    found = predictions(fabric, model, clips, batch_size, workers, bar)
    return {name: prediction.mean for name, prediction in found.items()}


@torch.no_grad()
def predictions(
    fabric: Fabric,
    model: nn.Module,
    clips: ClipDataset | Sequence[Sample],
    batch_size: int,
    workers: int,
    bar: str | None = None,
) -> dict[str, Prediction]:
    """Return the prediction of each target group as float64 arrays (N, K), in units of the group's range and in the table's
    order, in every process.

    Each process predicts a part of the clips; no clip is predicted twice. bar: label of a progress bar; None shows none.
    """
    model.eval()
    mine = list(range(len(clips)))[fabric.global_rank :: fabric.world_size]
    parts = [mine[at : at + batch_size] for at in range(0, len(mine), batch_size)]
    found = [
        (
            batch.index.cpu().numpy(),
            {name: Prediction(*map(_to_array, one)) for name, one in model(batch.inputs).predictions.items()},
        )
        for batch in tqdm(
            make_loader(fabric, clips, parts, workers), desc=bar, unit="batch", disable=True if bar is None else None
        )
    ]
    everywhere = [one for of_rank in gather(fabric, found) for one in of_rank]
    order = np.argsort(np.concatenate([index for index, _ in everywhere]))
    groups = everywhere[0][1]
    return {
        name: Prediction(
            *(_joined([of[name][part] for _, of in everywhere], order) for part in range(len(groups[name])))
        )
        for name in groups
    }


def _to_array(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.float().cpu().numpy()


def _joined(parts: Sequence[np.ndarray | None], order: np.ndarray) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known)[order].astype(float) if known else None
