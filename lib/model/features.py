"""The vectors that a network makes of clips on the way to its predictions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from lib.model.fusions import mean
from lib.model.network import Network
from lib.model.tokens import Tokens

FUSED = "fused"


@contextmanager
def recorded(network: Network) -> Iterator[dict[str, list[np.ndarray]]]:
    """Record, by encoder, the mean of its tokens as the fusion is given them, and FUSED, what the fusion makes of all: a row
    of numbers for each clip that the network is given meanwhile, in lists of batches."""
    found: dict[str, list[np.ndarray]] = {}

    def add(_: nn.Module, given: tuple[dict[str, Tokens], Any], made: tuple[Tensor, Any]) -> None:
        for name, tokens in given[0].items():
            found.setdefault(name, []).append(mean(tokens).detach().float().cpu().numpy())
        found.setdefault(FUSED, []).append(made[0].detach().float().flatten(1).cpu().numpy())

    handle = network.fusion.register_forward_hook(add)
    try:
        yield found
    finally:
        handle.remove()
