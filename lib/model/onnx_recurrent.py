"""LSTM and GRU as one operator of ONNX, so that an exported network takes any number of steps.

Without it, torch.export writes the layer once for each step of the example.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_GATES = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
"""PyTorch's gates in the order of ONNX."""


@torch.library.custom_op("apparent_personality::recur", mutates_args=())
def recur(values: Tensor, weights: Tensor, recurrence: Tensor, bias: Tensor, kind: str, units: int) -> list[Tensor]:
    """Return the states (T, directions, B, units) and the last state (directions, B, units) of values (T, B, D).

    weights (directions, gates * units, D), recurrence and bias: as for ONNX's operators LSTM and GRU. It only stands in the
    exported program; it does not compute.
    """
    raise NotImplementedError("this operator is for export to ONNX")


@recur.register_fake
def _(values: Tensor, weights: Tensor, recurrence: Tensor, bias: Tensor, kind: str, units: int) -> list[Tensor]:
    steps, batch = values.shape[:2]
    directions = len(recurrence)
    return [values.new_empty(steps, directions, batch, units), values.new_empty(directions, batch, units)]


def run(network: nn.LSTM | nn.GRU, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states (B, T, directions * units) and the last state (directions, B, units) of values (B, T, D)."""
    kind = type(network).__name__
    ends = ("", "_reverse") if network.bidirectional else ("",)

    def stack(name: str) -> Tensor:
        return torch.stack([_order(getattr(network, f"{name}_l0{end}"), kind) for end in ends])

    bias = torch.cat([stack("bias_ih"), stack("bias_hh")], 1)
    weights, recurrence = stack("weight_ih"), stack("weight_hh")
    states, last = recur(values.transpose(0, 1), weights, recurrence, bias, kind, network.hidden_size)
    return states.permute(2, 0, 1, 3).flatten(2), last


def _order(weights: Tensor, kind: str) -> Tensor:
    gates = weights.chunk(len(_GATES[kind]))
    return torch.cat([gates[index] for index in _GATES[kind]])


def make_translations() -> dict[Any, Callable[..., Any]]:
    """Return the translation of the operator, for torch.onnx.export."""
    import onnxscript

    op: Any = onnxscript.opset18

    def translate(values: Any, weights: Any, recurrence: Any, bias: Any, kind: str, units: int) -> tuple[Any, Any]:
        direction = "bidirectional" if weights.shape is not None and weights.shape[0] == 2 else "forward"
        options = {"hidden_size": units, "direction": direction}
        if kind == "GRU":
            states, last = op.GRU(values, weights, recurrence, bias, linear_before_reset=1, **options)
            return states, last
        states, last, _ = op.LSTM(values, weights, recurrence, bias, **options)
        return states, last

    return {torch.ops.apparent_personality.recur.default: translate}
