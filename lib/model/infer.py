"""Predictions of a network, during or after training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lib.data.batch import Sample
from lib.data.dataset import ClipDataset
from lib.data.loading import gather, make_loader
from lib.model.heads import HeadOutput

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric


def predict(
    fabric: "Fabric",
    model: nn.Module,
    clips: ClipDataset | Sequence[Sample],
    batch_size: int,
    workers: int,
    bar: str | None = None,
) -> dict[str, np.ndarray]:
    """Return the means (N, K) of `predict_outputs`."""
    predicted = predict_outputs(fabric, model, clips, batch_size, workers, bar)
    return {name: prediction.mean for name, prediction in predicted.items()}


@torch.no_grad()
def predict_outputs(
    fabric: "Fabric",
    model: nn.Module,
    clips: ClipDataset | Sequence[Sample],
    batch_size: int,
    workers: int,
    bar: str | None = None,
) -> dict[str, HeadOutput]:
    """Return the prediction of each target group as float64 arrays (N, K), in every process.

    Values are in units of the group's range, and clips in the order of the table. Each process predicts a part of the clips;
    no clip is predicted twice. bar: label of a progress bar; None shows none.
    """
    model.eval()
    members = list(range(len(clips)))[fabric.global_rank :: fabric.world_size]
    parts = [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
    batches = [
        (
            batch.index.cpu().numpy(),
            {name: HeadOutput(*map(_to_array, tensors)) for name, tensors in model(batch.inputs).predictions.items()},
        )
        for batch in tqdm(
            make_loader(fabric, clips, parts, workers), desc=bar, unit="batch", disable=True if bar is None else None
        )
    ]
    all_batches = [batch for batches_of_process in gather(fabric, batches) for batch in batches_of_process]
    order = np.argsort(np.concatenate([index for index, _ in all_batches]))
    return {
        name: HeadOutput(
            *(
                _join([predictions[name][part] for _, predictions in all_batches], order)
                for part in range(len(prediction))
            )
        )
        for name, prediction in all_batches[0][1].items()
    }


def _to_array(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.float().cpu().numpy()


def _join(parts: Sequence[np.ndarray | None], order: np.ndarray) -> np.ndarray | None:
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays)[order].astype(float) if arrays else None
