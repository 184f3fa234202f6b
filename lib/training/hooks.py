"""Hooks: what else happens after a step, after an epoch and at the end of a training."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib.core.loggers import Logger, begin_runs
from lib.training.state import Row, TrainState
from lib.training.step import StepResult


class Hook:
    """Called by `lib.training.loop.fit` in every process. Read this before writing a hook, then give it to `fit`.

    A subclass overrides what it needs; a hook that writes files does so in the process with `fabric.global_rank` 0 alone.
    """

    def on_step(self, state: TrainState, result: StepResult) -> None:
        """Called after each step of the optimizer."""

    def on_epoch(self, state: TrainState, row: Row) -> None:
        """Called after each validation, with the epoch's row of the history."""

    def on_end(self, state: TrainState) -> None:
        """Called once, after the last epoch."""


class Checkpoint(Hook):
    """Saves the state after each epoch."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_epoch(self, state: TrainState, row: Row) -> None:
        """Save the state."""
        if state.fabric.global_rank == 0:
            state.save(self._path)


class History(Hook):
    """Writes the history as CSV, a row an epoch, at the end of the training."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_end(self, state: TrainState) -> None:
        """Write the file."""
        if state.fabric.global_rank == 0 and state.history:
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("w", newline="") as file:
                writer = csv.DictWriter(file, state.history[0])
                writer.writeheader()
                writer.writerows(state.history)


class Loggers(Hook):
    """Sends the parameters and each epoch to loggers. names: in LOGGERS. parameters: sections of params.yaml."""

    def __init__(self, names: Sequence[str] = (), parameters: Mapping[str, Any] | None = None) -> None:
        self._names, self._parameters = names, parameters or {}
        self._loggers: list[Logger] | None = None

    def on_epoch(self, state: TrainState, row: Row) -> None:
        """Log the row. The first epoch begins the runs."""
        if state.fabric.global_rank:
            return
        if self._loggers is None:
            self._loggers = begin_runs(self._names, self._parameters)
        for logger in self._loggers:
            logger.log_epoch({key: value for key, value in row.items() if key != "epoch"}, int(row["epoch"]))

    def on_end(self, state: TrainState) -> None:
        """Close the loggers."""
        for logger in self._loggers or ():
            logger.end()


class ProgressBar(Hook):
    """Shows losses and std_ratio of the latest epoch, on a terminal and in the log. group: whose std_ratio."""

    def __init__(self, state: TrainState, group: str) -> None:
        done, total = len(state.history), state.settings.epochs
        quiet = None if state.fabric.global_rank == 0 else True
        self._bar = tqdm(initial=done, total=total, desc="train", unit="epoch", disable=quiet)
        self._group = group

    def on_epoch(self, state: TrainState, row: Row) -> None:
        """Advance the bar."""
        values = {
            "training": f"{row['training_loss']:.4f}",
            "validation": f"{row['validation_loss']:.4f}",
            "std_ratio": f"{row[f'validation_std_ratio_{self._group}']:.2f}",
        }
        self._bar.set_postfix(values, refresh=False)
        self._bar.update()
        if state.fabric.global_rank == 0:
            logging.getLogger("train").info("epoch %d of %d: %s", row["epoch"], state.settings.epochs, values)

    def on_end(self, state: TrainState) -> None:
        """Close the bar."""
        self._bar.close()
