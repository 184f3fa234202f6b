"""Where training's history is shown besides plots/history.csv; each an entry of a dict, chosen by name."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from lightning_fabric.loggers import Logger, TensorBoardLogger


class WandbLogger(Logger):
    """Weights & Biases: one run, in the folder logs/. WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._run: Any = None

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str | None:
        return self._run.id if self._run else None

    def log_hyperparams(self, params: Any) -> None:
        raise NotImplementedError  # given on construction

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log one epoch; the first begins the run, so that only the process that logs has one."""
        if self._run is None:
            import wandb  # an optional package that loads slowly

            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "apparent-personality"),
                dir="logs",
                config=dict(self._parameters),
            )
        self._run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        if self._run is not None:
            self._run.finish()


def _tensorboard(parameters: Mapping[str, Any]) -> Logger:
    return TensorBoardLogger("logs", "tensorboard")


LOGGERS: dict[str, Callable[[Mapping[str, Any]], Logger]] = {"tensorboard": _tensorboard, "wandb": WandbLogger}
