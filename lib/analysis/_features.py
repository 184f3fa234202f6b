"""Feature vectors that a network computes for clips on the way to its predictions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib.data.batch import collate
from lib.data.dataset import ClipDataset
from lib.data.loading import to_device
from lib.model.fusions import mean
from lib.model.network import Network
from lib.model.tokens import Tokens

FUSED = "fused"
"""The name of the fusion's output among features."""


@torch.no_grad()
def encode(encoder: nn.Module, name: str, clips: ClipDataset, batch_size: int, device: torch.device) -> pd.DataFrame:
    """Return the mean of an encoder's tokens, a row for each clip that has all of the encoder's inputs."""
    encoder = encoder.to(device)
    rows: dict[str, np.ndarray] = {}
    for start in range(0, len(clips), batch_size):
        batch = [clips[index] for index in range(start, min(start + batch_size, len(clips)))]
        if samples := [sample for sample in batch if all(len(steps.times) for steps in sample.inputs[name].values())]:
            values = mean(encoder(to_device(collate(samples), device).inputs[name])).float().cpu().numpy()
            rows |= dict(zip(clips.table["clip"].iloc[[sample.index for sample in samples]], values, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")


@contextmanager
def record_features(network: Network) -> Iterator[dict[str, list[np.ndarray]]]:
    """Record features while the context is open: lists of batches with a row for each clip.

    By encoder: the mean of its tokens, as the fusion receives them. FUSED: the fusion's output.
    """
    features: dict[str, list[np.ndarray]] = {}

    def add(_: nn.Module, inputs: tuple[dict[str, Tokens], Any], outputs: tuple[Tensor, Any]) -> None:
        for name, tokens in inputs[0].items():
            features.setdefault(name, []).append(mean(tokens).detach().float().cpu().numpy())
        features.setdefault(FUSED, []).append(outputs[0].detach().float().flatten(1).cpu().numpy())

    handle = network.fusion.register_forward_hook(add)
    try:
        yield features
    finally:
        handle.remove()
