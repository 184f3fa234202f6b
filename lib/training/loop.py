"""The training loop: any number of processes, early stopping on the validation loss."""

import math
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.data.loading import gather
from lib.model.heads import HeadOutput
from lib.model.infer import predict_outputs
from lib.scoring.scores import score_columns
from lib.training.data import Epoch, Part, TrainData
from lib.training.gpu import GpuMeter
from lib.training.hooks import Hook
from lib.training.losses import find_loss
from lib.training.schedules import SCHEDULES, Progress, epochs_since_best
from lib.training.settings import Train
from lib.training.state import Row, TrainState
from lib.training.step import StepResult, train_step


def fit(state: TrainState, data: TrainData, settings: Train, hooks: Sequence[Hook] = ()) -> None:
    """Train until the last epoch, or until the validation loss has not improved for `patience` epochs.

    A state that was loaded goes on after its last epoch, to the same result as without the interruption. `state` then has
    the history and the best weights. Raises InputError for a loss that is not finite.
    """
    settings.check_batch_size(state.fabric.world_size)
    gpu = GpuMeter(state.fabric.device)
    for number in range(len(state.history), settings.epochs):
        if epochs_since_best(state.losses) >= settings.patience:
            break
        started = time.perf_counter()
        epoch = Epoch(state.fabric, data, number)
        results, factor = train_epoch(state, data, epoch, number, hooks, gpu)
        trained = time.perf_counter() - started
        row = {
            "epoch": number + 1,
            **summarise_steps(state, data, results),
            **validate(state, data),
            "learning_rate": settings.rate("head") * factor,
            "seconds": round(time.perf_counter() - started, 2),
            "clips_per_second": round(sum(map(len, epoch.batches)) / trained, 2),
            # fraction of the time in which no batch was ready
            "waiting": round(sum(result.waited for result in results) / trained, 3),
        } | gpu.read()
        if not math.isfinite(row["validation_loss"]):
            raise _not_finite(f"the validation loss is {row['validation_loss']} in epoch {number + 1}")
        state.add(row)
        for hook in hooks:
            hook.on_epoch(state, row)
    for hook in hooks:
        hook.on_end(state)


def train_epoch(
    state: TrainState, data: TrainData, epoch: Epoch, number: int, hooks: Sequence[Hook], gpu: GpuMeter
) -> tuple[list[StepResult], float]:
    """Run an epoch's steps; return their results, and the last factor of the learning rates."""
    settings, steps, results, factor = data.settings, len(epoch.batches), list[StepResult](), 1.0
    state.model.train()
    losses, schedule = state.losses, SCHEDULES[settings.schedule]
    for step, parts in enumerate(epoch.steps()):
        factor = schedule(
            Progress(number + step / steps, settings.epochs, settings.warmup, losses, steps, plateau=settings.plateau)
        )
        state.set_rates(factor)
        results.append(train_step(state, parts, data.targets, partial(_check_finite, data, number)))
        gpu.sample()
        for hook in hooks:
            hook.on_step(state, results[-1])
    return results, factor


def summarise_steps(state: TrainState, data: TrainData, results: Sequence[StepResult]) -> Row:
    """Return the training loss, and each group's accuracy over the predictions of an epoch in all processes. With a term of
    train.fairness, training_fairness is its mean.

    The predictions were computed with augmentation and dropout, and the weights changed from step to step.
    """
    losses = {name: [value for result in results for value in result.losses[name]] for name in data.targets}
    pairs = {
        name: (
            _concatenate([part for result in results for part in result.labels[name]]),
            _concatenate([part for result in results for part in result.means[name]]),
        )
        for name in data.targets
    }
    all_losses, all_pairs = gather(state.fabric, losses), gather(state.fabric, pairs)
    row = {
        "training_loss": sum(
            group.weight * float(np.mean([np.mean(process[name]) for process in all_losses if process[name]] or [0.0]))
            for name, group in data.targets.items()
        )
    }
    for name, group in data.targets.items():
        actual, predicted = map(np.concatenate, zip(*(process[name] for process in all_pairs), strict=True))
        accuracy = score_columns(actual, predicted, group.columns, span=1.0)["accuracy"]["mean"]
        row[f"training_accuracy_{name}"] = math.nan if accuracy is None else accuracy
    if state.term is not None:
        of_processes = gather(state.fabric, [value for result in results for value in result.fairness])
        terms = [value for of_process in of_processes for value in of_process]
        row["training_fairness"] = float(np.mean(terms or [math.nan]))
    return row


def validate(state: TrainState, data: TrainData) -> Row:
    """Return the validation loss, and 1 - MAE, R2, CCC and std_ratio of each target group.

    1 - MAE, R2 and CCC are also returned for each target, as SCORE_GROUP.TARGET. std_ratio is the standard deviation of the
    predictions divided by that of the labels: near 0 if all predictions are the mean. With `ema` the averaged weights
    predict.
    """
    with state.averaged():
        predicted = predict_outputs(
            state.fabric, state.model, data.validation, data.settings.part_size, data.settings.workers
        )
    total, row = 0.0, {}
    for name, group in data.targets.items():
        actual = data.validation.targets[name].astype(np.float32).astype(float)
        prediction = HeadOutput(*(None if part is None else torch.from_numpy(part) for part in predicted[name]))
        value = find_loss(group)(prediction, torch.from_numpy(actual), torch.ones(actual.shape, dtype=torch.float64))
        total += group.weight * value.item()
        scored = score_columns(actual, predicted[name].mean, group.columns, span=1.0)
        for score in ("accuracy", "r2", "ccc", "std_ratio"):
            key = f"validation_{score}_{name}"
            columns = () if score == "std_ratio" else group.columns
            row[key] = scored[score]["mean"]
            row |= {f"{key}.{column}": scored[score][column] for column in columns}
    return {"validation_loss": total} | {key: math.nan if value is None else value for key, value in row.items()}


def _check_finite(data: TrainData, number: int, loss: Tensor, part: Part) -> None:
    if not loss.isfinite():
        names = ", ".join(data.names(part.sample.index))
        raise _not_finite(f"the loss is {loss.item()} in epoch {number + 1} at clips {names}")


def _not_finite(problem: str) -> InputError:
    return InputError(f"{problem}; lower train.learning_rate. The epochs before are kept")


def _concatenate(batches: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(batches)).cpu().double().numpy()
