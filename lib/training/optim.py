"""Optimizers, each an entry of OPTIMIZERS. `train.optimizer` chooses one by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # settings are checked without PyTorch
    from torch import nn
    from torch.optim import Optimizer

    from lib.model.network import Network

Groups = list[dict[str, Any]]
"""Groups of parameters with their learning rates, as PyTorch's optimizers take them."""


class OptimizerSettings(Protocol):
    """The settings that optimizers read, as lib/training/settings.py describes them."""

    @property
    def optimizer(self) -> str: ...
    @property
    def betas(self) -> list[float]: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def decay_all(self) -> bool: ...

    def rate(self, name: str) -> float:
        """Return the learning rate of an encoder, or of `head`."""
        ...


def _adamw(groups: Groups, settings: OptimizerSettings) -> "Optimizer":
    from torch.optim import AdamW

    return AdamW(groups, betas=_betas(settings), weight_decay=settings.weight_decay)


def _nadam(groups: Groups, settings: OptimizerSettings) -> "Optimizer":
    from torch.optim import NAdam

    return NAdam(groups, betas=_betas(settings), weight_decay=settings.weight_decay, decoupled_weight_decay=True)


def _sgd(groups: Groups, settings: OptimizerSettings) -> "Optimizer":
    from torch.optim import SGD

    return SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay)


def _adafactor(groups: Groups, settings: OptimizerSettings) -> "Optimizer":
    from torch.optim import Adafactor

    return Adafactor(groups, weight_decay=settings.weight_decay)


OPTIMIZERS: "dict[str, Callable[[Groups, OptimizerSettings], Optimizer]]" = {
    "adamw": _adamw,
    "nadam": _nadam,
    "sgd": _sgd,
    "adafactor": _adafactor,
}
"""A function for each name: from the groups of parameters and the settings to the optimizer."""


def build_optimizer(network: "Network", settings: OptimizerSettings) -> "Optimizer":
    """Return the optimizer of a network's parameters."""
    return OPTIMIZERS[settings.optimizer](group_parameters(network, settings), settings)


def group_parameters(network: "Network", settings: OptimizerSettings) -> Groups:
    """Return each encoder's parameters, and all others as those of `head`, with their learning rates.

    Unless `decay_all`, parameters of norms, biases and embeddings (1, N, D) are groups of their own without weight decay.
    """
    members: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.parameter_groups():
        members.setdefault(name, []).append(parameter)
    groups: Groups = []
    for name, parameters in members.items():
        undecayed = [] if settings.decay_all else [parameter for parameter in parameters if _is_vector(parameter)]
        undecayed_ids = set(map(id, undecayed))
        decayed = [parameter for parameter in parameters if id(parameter) not in undecayed_ids]
        rates = {"lr": settings.rate(name), "initial_lr": settings.rate(name)}
        groups += [{"params": decayed, **rates}] if decayed else []
        groups += [{"params": undecayed, **rates, "weight_decay": 0.0}] if undecayed else []
    return groups


def _is_vector(parameter: "nn.Parameter") -> bool:
    return parameter.dim() < 2 or (parameter.dim() == 3 and len(parameter) == 1)


def _betas(settings: OptimizerSettings) -> tuple[float, float]:
    return settings.betas[0], settings.betas[1]
