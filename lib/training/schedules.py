"""Schedules of the learning rates, each an entry of SCHEDULES. `train.schedule` chooses one by name."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Plateau(Protocol):
    """When the plateau schedule lowers the rates, and the factor by which it multiplies them."""

    @property
    def patience(self) -> int: ...
    @property
    def factor(self) -> float: ...


class DefaultPlateau(NamedTuple):
    """Halve the rates after three epochs."""

    patience: int = 3
    factor: float = 0.5


class Progress(NamedTuple):
    """Where a training is.

    epoch: number of epochs that are done, a fraction within one. epochs, warmup: number of all epochs, and of those of the
    warm-up. losses: validation losses so far. steps: number of steps in an epoch. offset: fraction of an epoch by which the
    warm-up has advanced at the first step, so that the first rate isn't 0. plateau: settings of the schedule of this name.
    """

    epoch: float
    epochs: int
    warmup: int
    losses: Sequence[float] = ()
    steps: int = 1
    offset: float = 0.1
    plateau: Plateau = DefaultPlateau()


def cosine(progress: Progress) -> float:
    """Rise linearly over the warm-up, then fall to 0 along a cosine."""
    if progress.epoch < progress.warmup:
        return _rise(progress)
    return _fall(progress.epoch - progress.warmup, progress.epochs - progress.warmup)


def cosine_by_step(progress: Progress) -> float:
    """Rise from 0 at the first step to 1 at the last step of the warm-up, then fall to 0 (Chen et al. 2023, S2D)."""
    step, rise = round(progress.epoch * progress.steps), progress.warmup * progress.steps
    return step / max(rise - 1, 1) if step < rise else _fall(step - rise, progress.epochs * progress.steps - rise)


def plateau(progress: Progress) -> float:
    """Rise linearly over the warm-up, then fall by a factor each time that the validation loss has not improved for
    `patience` epochs."""
    if progress.epoch < progress.warmup:
        return _rise(progress)
    factor, best, since = 1.0, math.inf, 0
    for loss in progress.losses:
        since = 0 if loss < best else since + 1
        best = min(best, loss)
        if since == progress.plateau.patience:
            factor, since = factor * progress.plateau.factor, 0
    return factor


SCHEDULES: dict[str, Callable[[Progress], float]] = {
    "cosine": cosine,
    "cosine_by_step": cosine_by_step,
    "plateau": plateau,
}
"""A function for each name: from the progress to the factor of all learning rates."""


def _rise(progress: Progress) -> float:
    return (progress.epoch + progress.offset) / (progress.warmup + progress.offset)


def _fall(done: float, total: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done / max(total, 1)))


def epochs_since_best(losses: Sequence[float]) -> int:
    """Return the number of epochs since the lowest loss; 0 before the first epoch."""
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
