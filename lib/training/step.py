"""One step of the optimizer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.training.data import Part
from lib.training.losses import find_loss
from lib.training.state import TrainState


@dataclass
class StepResult:
    """What a step returns, for the history and for hooks, by target group.

    losses: of each part in which a target is known. fairness: the term of train.fairness of each part in which a group is
    known. labels, means: (B, K) of each part, in units of the group's range.
    waited: seconds until the parts were read.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    labels: dict[str, list[Tensor]] = field(default_factory=dict)
    means: dict[str, list[Tensor]] = field(default_factory=dict)
    waited: float = 0.0
    fairness: list[float] = field(default_factory=list)


def train_step(
    state: TrainState, parts: Iterable[Part], targets: Targets, check: Callable[[Tensor, Part], None]
) -> StepResult:
    """Update the network by one batch, and return the losses and predictions.

    The loss is the sum over target groups of weight times loss, each over the known targets, plus the encoders' penalties
    and the term of train.fairness.
    `parts` of the batch are computed one after another and weigh by their known targets, so the division changes nothing.
    `check` is called with the loss of each part before its gradient. Raises InputError if the GPU's memory runs out.
    """
    result = StepResult({name: [] for name in targets}, {name: [] for name in targets}, {name: [] for name in targets})
    try:
        for part in parts:
            result.waited += part.waited
            with state.fabric.no_backward_sync(state.model, enabled=not part.last):
                loss = _compute_loss(state, part, targets, result)
                check(loss, part)
                state.fabric.backward(loss)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the GPU's memory does not suffice ({str(error).split('.')[0]}); lower the steps of model.encoders, raise"
            " train.accumulate, or take train.precision = 16-mixed"
        ) from None
    state.fabric.clip_gradients(state.model, state.optimizer, max_norm=state.settings.clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.average is not None:
        state.average.update_parameters(state.network)
    return result


def _compute_loss(state: TrainState, part: Part, targets: Targets, result: StepResult) -> Tensor:
    output = state.model(part.sample.inputs)
    total: Tensor = output.penalty * part.fraction
    for name, group in targets.items():
        prediction, actual, share = output.predictions[name], part.sample.targets[name], part.shares[name]
        value = find_loss(group)(prediction, actual, part.weights[name])
        total = total + group.weight * value * share
        result.labels[name].append(actual)
        result.means[name].append(prediction.mean.detach())
        if share:
            result.losses[name].append(value.item())
    if state.term is not None:
        term = state.term(output.fused.flatten(1), part.groups)
        total = total + term * part.group_share
        if part.group_share:
            result.fairness.append(term.item())
    return total
