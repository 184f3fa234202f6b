"""Predictions of a trained or a training network."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from lib.data.batch import Sample
from lib.data.dataset import Clips
from lib.data.loading import gather, loader


@torch.no_grad()
def predict(
    fabric: Fabric,
    model: nn.Module,
    clips: Clips | Sequence[Sample],
    batch_size: int,
    workers: int,
    bar: str | None = None,
) -> dict[str, np.ndarray]:
    """Return the predictions (N, K) of each target group, in units of its range and the table's order, in every process.

    Each process predicts its own share; no clip is counted twice. `bar` is a progress bar's text; None: there is none.
    """
    model.eval()
    mine = list(range(len(clips)))[fabric.global_rank :: fabric.world_size]
    parts = [mine[at : at + batch_size] for at in range(0, len(mine), batch_size)]
    found = [
        (
            batch.index.cpu().numpy(),
            {name: of.float().cpu().numpy() for name, of in model(batch.inputs).predicted.items()},
        )
        for batch in tqdm(
            loader(fabric, clips, parts, workers), desc=bar, unit="batch", disable=True if bar is None else None
        )
    ]
    everywhere = [one for of_rank in gather(fabric, found) for one in of_rank]
    order = np.argsort(np.concatenate([index for index, _ in everywhere]))
    groups = everywhere[0][1]
    return {name: np.concatenate([of[name] for _, of in everywhere])[order].astype(float) for name in groups}
