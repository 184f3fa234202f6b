"""The state of a training: everything that changes from step to step. It can be saved and loaded."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lib.core import resume
from lib.model.network import Network
from lib.training.fairness_terms import make_term
from lib.training.optim import build_optimizer
from lib.training.schedules import epochs_since_best
from lib.training.settings import Train

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric

Row = dict[str, float]
"""An epoch in plots/history.csv."""
INITIAL = "initial_validation_loss"
"""The column of the validation loss before the first epoch, of a network with a linear path."""


class TrainState:
    """Network, optimizer, moving average, history and best weights of a training.

    network: the module that is saved; model: the same module wrapped by Fabric, for the forward pass on several devices.
    average: the moving average of the weights, with `ema`. history: a row for each epoch. best: the weights of the epoch
    with the lowest validation loss. initial_loss: the validation loss before the first epoch, infinite unless
    `keep_initial` was called. term: the term of train.fairness, None without one; it is part of the saved state, but not of
    `best`. group_counts (G,): number of training clips of each group of persons.
    """

    def __init__(self, fabric: "Fabric", network: Network, settings: Train, group_counts: Tensor | None = None) -> None:
        self.fabric, self.network, self.settings = fabric, network, settings
        term = make_term(settings.fairness, network, group_counts, settings.fairness_weight)
        self.term = None if term is None else term.to(fabric.device)
        self.model, self.optimizer = fabric.setup(network, build_optimizer(network, settings))
        self.average: AveragedModel | None = None
        if settings.ema is not None:
            average = get_ema_multi_avg_fn(settings.ema)
            self.average = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        self.history: list[Row] = []
        self.best: dict[str, Tensor] = {}
        self.initial_loss = math.inf

    @property
    def losses(self) -> list[float]:
        """Validation losses of the epochs so far."""
        return [row["validation_loss"] for row in self.history]

    def add(self, row: Row) -> None:
        """Add an epoch to the history; keep its weights if its validation loss is the lowest."""
        self.history.append(row | ({INITIAL: self.initial_loss} if math.isfinite(self.initial_loss) else {}))
        if epochs_since_best(self.losses) == 0 and row["validation_loss"] < self.initial_loss:
            network = self.network if self.average is None else self.average.module
            self.best = copy_weights(network)

    def keep_initial(self, loss: float) -> None:
        """Keep the weights before the first epoch, whose validation loss is `loss`, unless an epoch has a lower loss."""
        self.initial_loss, self.best = loss, copy_weights(self.network)

    def set_rates(self, factor: float) -> None:
        """Set the learning rates to their initial values times `factor`."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network use the averaged weights inside the block, if `ema` is set."""
        if self.average is None:
            yield
            return
        trained = {key: value.detach().clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.module.state_dict())
        yield
        self.network.load_state_dict(trained)

    def save(self, path: Path) -> None:
        """Write the state. If the process is killed while it writes, the previous file remains."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "initial_loss": self.initial_loss,
        }
        state |= {} if self.term is None else {"term": self.term.state_dict()}
        partial = path.with_suffix(".partial")
        torch.save(state | ({} if self.average is None else {"average": self.average.state_dict()}), partial)
        resume.finish_file(partial, path)

    def load(self, path: Path) -> None:
        """Load a saved state."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.term is not None:
            self.term.load_state_dict(state["term"])
        self.history, self.best, self.initial_loss = state["history"], state["best"], state["initial_loss"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights and buffers in the CPU's memory."""
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
