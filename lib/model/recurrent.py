"""Recurrent networks over clips of different lengths, unaffected by padding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lib.model import onnx_recurrent


class Last(nn.Module):
    """The last state of an LSTM or a GRU; in both directions the forward's last and the backward's first-time state.

    as_operator: whether an exported network contains it as one operator, which only ONNX has.
    """

    as_operator = False

    def __init__(self, kind: str, inputs: int, units: int, bidirectional: bool = False) -> None:
        super().__init__()
        network = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
        self.network = network(inputs, units, batch_first=True, bidirectional=bidirectional)

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        """From values (B, T, D), whose first steps are present (B, T), to (B, units), or (B, 2 units) in both directions."""
        return self.run(values, present)[1]

    def run(self, values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states at all steps (B, T, units), 0 after the end of a clip, and the last state."""
        if torch.compiler.is_exporting():  # all steps are present
            states, last = onnx_recurrent.run(self.network, values) if self.as_operator else self.network(values)
            return states, self._join(last)
        lengths = present.sum(1).cpu()
        packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        states, last = self.network(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=values.shape[1])
        return padded, self._join(last)

    @staticmethod
    def _join(last: Any) -> Tensor:
        hidden = last[0] if isinstance(last, tuple) else last
        # torch.export adds a dimension: (directions, 1, B, units)
        return torch.cat(list(hidden.flatten(0, -3)), -1)
