"""A transformer over a short sequence of vectors, for instance embeddings of faces, with learnt positions."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.weights import find_mismatches, load_published, summarise_mismatches
from lib.model import encoders
from lib.model.settings.sequence_transformer import Settings as Settings
from lib.model.tokens import Tokens
from lib.streams.base import Steps


class Encoder(encoders.Encoder):
    """Vectors (T, D) of one stream, projected, with learnt positions, through transformer layers with ReLU: a token a step
    (the single-task networks of SSL-MEPR).

    norm: layer norm "after" each part, as published and in Vaswani et al. 2017, or "before" it. mask: whether steps that are
    not there are not looked at either. weights: None, or the path of a published single-task network or of a model.pt with
    one such encoder. frozen: all of it stays as loaded, and nothing is dropped out of it. Raises InputError if it reads
    several streams or a stream without vectors, the heads don't divide the width, or the weights don't fit.
    """

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        if len(settings.reads) > 1 or len(shapes[0]) != 1:
            raise InputError(
                f"reads = {settings.reads}, steps of {[list(shape) for shape in shapes]}; allowed for"
                " sequence_transformer: one stream of vectors, for instance embeddings"
            )
        if settings.width % settings.heads:
            raise InputError(f"heads = {settings.heads}; allowed: a divisor of width = {settings.width}")
        (self._stream,), ((inputs,),) = settings.reads, shapes
        self._settings, self.output_dim = settings, settings.width
        self.input_proj = nn.Linear(inputs, settings.width)
        self.pos_embed = nn.Parameter(torch.randn(1, settings.positions, settings.width))
        layer = nn.TransformerEncoderLayer(
            settings.width,
            settings.heads,
            settings.feed_forward,
            settings.dropout,
            batch_first=True,
            norm_first=settings.norm == "before",
        )
        self.encoder = nn.TransformerEncoder(layer, settings.depth, enable_nested_tensor=False)
        if settings.weights is not None:
            self._load(settings.weights)
        self.requires_grad_(not settings.frozen)

    def train(self, mode: bool = True) -> "Encoder":
        """Frozen, it stays in evaluation mode."""
        return super().train(mode and not self._settings.frozen)

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """Vectors (B, T, D) to tokens (B, T, width)."""
        read = inputs[self._stream]
        steps = read.values.shape[1]
        if steps > self._settings.positions:
            raise InputError(
                f"positions = {self._settings.positions}, but a clip has {steps} steps of"
                f" {self._stream}; raise it, or lower steps with take = parts"
            )
        tokens = self.input_proj(read.values) + self.pos_embed[:, :steps]
        unseen = ~read.present if self._settings.mask else None
        return Tokens(self.encoder(tokens, src_key_padding_mask=unseen), read.times, read.present, (1, 1))

    def _load(self, path: str) -> None:
        state: dict[str, Tensor] = load_published(
            path,
            "weights",
            "allowed: null, or the path of a published single-task transformer, or of a model.pt",
        )
        of_project = [name for name in state if re.fullmatch(r"encoders\.\w+\.pos_embed", name)]
        if len(of_project) == 1:
            prefix = of_project[0].removesuffix("pos_embed")
            state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
        if wrong := find_mismatches(self.state_dict(), state):
            raise InputError(f"weights = {path!r} do not fit sequence_transformer: {summarise_mismatches(wrong)}")
        self.load_state_dict(state)
