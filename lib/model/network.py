"""The two-stream network: faces and flow to tokens, tokens to one vector, the vector to five traits."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.targets import SCORES, TRAITS
from lib.model.encoders.images import StaticStream
from lib.model.encoders.volumes import DynamicStream
from lib.model.fusions import FUSIONS, Attention

OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "linear": nn.Identity()}


class Network(nn.Module):
    """Predicts the traits from aligned faces and the flow between them.

    fusion: a key of FUSIONS; width, heads, depth and dropout are its. output: "sigmoid" keeps predictions in [0, 1],
    "linear" does not. static, dynamic: arguments of the two streams (static's `frames` is the data's). Only the streams
    that the fusion takes are built. interview: the score of that name is predicted too, as a sixth.
    """

    def __init__(
        self,
        fusion: str,
        output: str,
        interview: bool,
        width: int,
        heads: int,
        depth: int,
        dropout: float,
        static: Mapping[str, Any],
        dynamic: Mapping[str, Any],
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise InputError(f"params.yaml: model.fusion = {fusion!r}; allowed: {', '.join(FUSIONS)}")
        if output not in OUTPUTS:
            raise InputError(f"params.yaml: model.output = {output!r}; allowed: {', '.join(OUTPUTS)}")
        if width % heads or width % 6:
            raise InputError(
                f"params.yaml: model.width = {width}; allowed: a multiple of 6 and of model.heads = {heads}"
            )
        make, streams = FUSIONS[fusion]
        self.streams = nn.ModuleDict()
        if "static" in streams:
            self.streams["static"] = StaticStream(static["backbone"], static["weights"], static["frozen"])
        if "dynamic" in streams:
            self.streams["dynamic"] = DynamicStream(dynamic["backbone"], dynamic["weights"])
        self.project = nn.ModuleDict(
            {name: nn.Linear(cast(int, self.streams[name].output_dim), width) for name in streams}
        )
        self.fusion = make(streams, width, heads, depth, dropout)
        self.predicts = SCORES if interview else TRAITS
        linear = [
            nn.Linear(cast(int, self.fusion.output_dim), len(self.predicts))
            for _ in range(cast(int, self.fusion.vectors))
        ]
        if output == "linear":
            for layer in linear:
                nn.init.constant_(layer.bias, 0.5)  # the middle of the scores' range
        self.head = nn.ModuleList(nn.Sequential(nn.Dropout(dropout), layer) for layer in linear)
        self.output = OUTPUTS[output]

    def forward(self, batch: Mapping[str, Tensor], with_attention: bool = False) -> tuple[Tensor, Attention]:
        """Return the scores named by `predicts` (B, 5 or 6), and the attention weights if asked for and where there are any.

        batch: `faces` (B, K, 3, S, S) RGB in [0, 1], `face_times` (B, K) in seconds, `flow` (B, 2, T, S, S) in pixels,
        padded at the end, `flow_times` (B, T), `flow_length` (B,).
        """
        tokens, padding = {}, {}
        for name, stream in self.streams.items():
            if name == "static":
                features = stream(batch["faces"])  # (B, D, K, h, w)
                times = batch["face_times"]
                lengths = torch.full_like(batch["flow_length"], features.shape[2])
            else:
                features, lengths = stream(batch["flow"], batch["flow_length"])  # (B, D, t, h, w)
                times = batch["flow_times"][:, :: stream.time_stride]
            steps, height, width = features.shape[2:]
            projected = self.project[name](features.flatten(2).transpose(1, 2))  # (B, t h w, width)
            tokens[name] = projected + position_encoding(times, height, width, projected.shape[-1]).to(projected.dtype)
            beyond = torch.arange(steps, device=lengths.device) >= lengths[:, None]
            padding[name] = beyond.repeat_interleave(height * width, dim=1)
        vectors, attention = self.fusion(tokens, padding, with_attention)  # (B, V, D)
        predicted = [self.output(head(vector)) for head, vector in zip(self.head, vectors.unbind(1), strict=True)]
        return torch.stack(predicted).mean(0), attention


def position_encoding(times: Tensor, height: int, width: int, channels: int) -> Tensor:
    """Sines and cosines (Vaswani et al. 2017) of time and place, the same for both streams: (B, t h w, channels).

    A third of the channels each for seconds, and for rows and columns as fractions of the face; tokens are in the
    order time, row, column.
    """
    batch, steps = times.shape
    count = channels // 6
    periods = torch.logspace(0, 1, count, 30, device=times.device)  # 1 to 30, of seconds or of a tenth of the face

    def encode(value: Tensor) -> Tensor:
        angle = 2 * torch.pi * value.unsqueeze(-1) / periods
        return torch.cat([angle.sin(), angle.cos()], -1)

    rows = torch.arange(height, device=times.device) * (10 / height)
    columns = torch.arange(width, device=times.device) * (10 / width)
    shape = (batch, steps, height, width, 2 * count)
    parts = [
        encode(times)[:, :, None, None].expand(shape),
        encode(rows)[None, None, :, None].expand(shape),
        encode(columns)[None, None, None].expand(shape),
    ]
    return torch.cat(parts, -1).flatten(1, 3)
