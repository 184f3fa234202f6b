"""Pretrained networks inside a model: rebuilt from the model's file, and trained in part or by low-rank adapters (LoRA)."""

import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.hidden_states import Layers, select_states

_LAYERS = ("blocks", "stages", "layers")
"""Names of the layers in networks of timm."""


def find_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network in order; for convolutional networks, its stages.

    They are the modules of timm's blocks, stages or layers, or layer1, layer2, ... of a ResNet, or else of the list with the
    most parameters that is in no other list; a list with as many modules as the configuration has layers is preferred.
    Raises InputError if the network has no layers.
    """
    for name in _LAYERS:
        if isinstance(layers := getattr(network, name, None), nn.Sequential):
            return list(layers)
    if numbered := [module for name, module in network.named_children() if re.fullmatch(r"layer\d+", name)]:
        return numbered
    lists = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.ModuleList) and len(module)
    }
    outer = [
        module
        for name, module in lists.items()
        if not any(name.startswith(f"{other}.") for other in lists if other != name)
    ]
    count = getattr(getattr(network, "config", None), "num_hidden_layers", None)
    candidates = [module for module in outer if len(module) == count] or outer
    if not candidates:
        raise InputError(
            f"trainable is not 0, and {type(network).__name__} has no list of layers; allowed for this network: 0; name"
            " another network"
        )
    largest = max(candidates, key=_count_parameters)
    return list(largest)


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def add_adapters(
    network: nn.Module, layers: Iterable[nn.Module], rank: int, alpha: float, run: Callable[[], Any]
) -> None:
    """Add a low-rank adapter to each linear module of `layers` that runs as a module; only adapters get gradients.

    Some networks read a linear module's weight directly, as WavLM's attention does: an adapter would have no effect there.
    run: runs the network once. Raises InputError if peft is not installed, or if no linear module runs.
    """
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError:
        raise InputError(
            "trainable = 'lora' needs peft, which is not installed; allowed without it: a number; run pip install"
            " -r requirements-transformers.txt, or set trainable to a number of layers"
        ) from None
    inside = {id(module) for layer in layers for module in layer.modules()}
    linear = {id(module): name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    names: dict[str, None] = {}

    def add(module: nn.Module, _: Any, __: Any) -> None:
        if id(module) in inside and id(module) in linear:
            names[linear[id(module)]] = None

    handles = [module.register_forward_hook(add) for module in network.modules() if id(module) in linear]
    run()
    for handle in handles:
        handle.remove()
    if not names:
        raise InputError(
            f"trainable = 'lora', but the layers of {type(network).__name__} have no linear module; allowed for this"
            " network: numbers of layers"
        )
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(names), lora_dropout=0.0)
    peft.inject_adapter_in_model(settings, network)


def set_checkpointing(network: Any) -> None:
    """Let a network's layers recompute their activations for gradients. Raises InputError if it has no such layers."""
    if hasattr(network, "set_grad_checkpointing"):  # timm's
        network.set_grad_checkpointing(True)
    elif getattr(network, "supports_gradient_checkpointing", False):
        network.activation_checkpointing_enable({"use_reentrant": False})
    else:
        raise InputError(f"checkpointing = true; allowed for {type(network).__name__}: false")


def pool_image(output: Any, layers: Layers, has_class_token: bool) -> Tensor:
    """Return a vector (B, D) or (B, L, D) for each image.

    It is the vector of the stream embeddings: the pooled output for the last layer if the network has one, else the class
    token, or the mean over all tokens or over the feature map.
    """
    pooled = getattr(output, "pooler_output", None)
    if layers == "last" and pooled is not None:
        return pooled.flatten(1)
    if output.last_hidden_state.dim() == 4:
        if layers != "last":
            raise InputError(f"layers = {layers}; allowed for a network of feature maps: last")
        return output.last_hidden_state.mean((2, 3))
    states = select_states(output, layers)
    return states[:, 0] if has_class_token else states.mean(1)
