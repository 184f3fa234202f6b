"""Select hidden states of pretrained networks, and recognise a class token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lib.core.errors import InputError

if TYPE_CHECKING:  # importing this module loads neither of them
    import torch
    from torch import Tensor

_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")
"""Last parts of the names of parameters that are the first token of an image."""
_LAYERS = "allowed: last, mean, all, or a list of different numbers of hidden states from 0 on"


def check_layers(layers: Any) -> Any:
    """Return `layers` if it is one of Layers, with different numbers; raise ValueError otherwise."""
    if layers in ("last", "mean", "all"):
        return layers
    numbers = isinstance(layers, list) and all(type(layer) is int and layer >= 0 for layer in layers)
    if not numbers or not layers or len(set(layers)) < len(layers):
        raise ValueError(_LAYERS.removeprefix("allowed: "))
    return layers


Layers = Literal["last", "mean", "all"] | list[Annotated[int, Field(ge=0, le=1000)]]
"""last: the network's output. mean: the mean over all hidden states. all, or a list of numbers: each of these hidden states.
Hidden state 0 is the output of the embedding layer, 1 that of the first layer."""


def select_layers(hidden_states: "Sequence[Tensor]", layers: Layers) -> "Tensor":
    """Return the selected hidden states of a network: (..., D) for last and mean, (..., L, D) for all and lists.

    hidden_states: (..., D) each; the first is the output of the embedding layer. Raises InputError for a number that the
    network does not have, or if hidden states of different shapes would be combined.
    """
    import torch

    if layers == "last":
        return hidden_states[-1]
    numbers = layers if isinstance(layers, list) else range(len(hidden_states))
    if max(numbers) >= len(hidden_states):
        raise InputError(
            f"layers = {layers}; allowed for this network: last, mean, all, or numbers from 0 to {len(hidden_states) - 1}"
        )
    chosen = [hidden_states[number] for number in numbers]
    if len({state.shape for state in chosen}) > 1:
        raise InputError(
            f"layers = {layers!r}, but this network's layers have different shapes; allowed: last, or layers of one shape"
        )
    stacked = torch.stack(chosen, -2)
    return stacked.mean(-2) if layers == "mean" else stacked


def select_states(output: Any, layers: Layers) -> "Tensor":
    """Return the chosen hidden states (..., D) or (..., L, D) of a network's output."""
    return output.last_hidden_state if layers == "last" else select_layers(output.hidden_states, layers)


def has_class_token(network: "torch.nn.Module") -> bool:
    """Return whether the first token of an image is a class token."""
    return any(name.rpartition(".")[2] in _CLASS_TOKENS for name, _ in network.named_parameters())
