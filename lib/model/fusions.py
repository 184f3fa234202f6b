"""Fusions of encoders' tokens: built with each encoder's width, they return vectors of a clip and attention weights."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.model.cross_attention import Block
from lib.model.settings import FusionOptions
from lib.model.tokens import Tokens, make_clip_token, measure_distance

AttentionWeights = dict[tuple[str, str], Tensor]
"""Of (query, key), two encoders' names: (B, heads, N_query, N_key)."""


class Fusion(nn.Module):
    """Combines the tokens of all encoders into vectors of a clip. Read this before writing a fusion, then add it to FUSIONS
    and its name to `lib.model.settings.FUSIONS`.

    A subclass implements `forward`, and `build` if it has layers. If its vectors are not as wide as all encoders' tokens
    together, `build` sets `output_dim`. widths: width of each encoder's tokens, by name.
    """

    projected: ClassVar[bool] = True
    """Whether the fusion needs tokens of one common width that contain their position in time and space."""
    vectors: int = 1
    """Number of vectors for a clip. Each makes a prediction, and the head combines them."""
    output_dim: int
    """Width D of a vector."""

    def __init__(self, widths: Mapping[str, int], options: FusionOptions | None = None) -> None:
        super().__init__()
        self.widths, self.names, self.output_dim = dict(widths), tuple(widths), sum(widths.values())
        self.build(options or FusionOptions.with_defaults())

    @property
    def width(self) -> int:
        """The width of the tokens of all encoders, where it is the same."""
        return next(iter(self.widths.values()))

    def build(self, options: FusionOptions) -> None:
        """Create the layers; by default the fusion has no layers."""

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, AttentionWeights]:
        """Return vectors (B, vectors, output_dim) and, if `attend`, attention weights.

        tokens: (B, N, width) of each encoder, by name; N differs between encoders. Tokens that are not present
        (`Tokens.mask`) must have no effect. The attention is empty for a fusion without any.
        """
        raise NotImplementedError


class Concat(Fusion):
    """Mean of each encoder's tokens, concatenated."""

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, AttentionWeights]:
        """Return one vector for each clip."""
        return torch.cat([mean(tokens[name]) for name in self.names], 1)[:, None], {}


class PlainConcat(Concat):
    """Mean of each encoder's tokens, without projection to a common width, concatenated."""

    projected = False


class Stacked(Concat):
    """Concat, whose predictions lib/model/committee.py stacks with those of regressions."""


class LateAverage(Concat):
    """Each encoder predicts by itself from the mean of its tokens; the predictions are averaged (late fusion)."""

    def build(self, options: FusionOptions) -> None:
        """Create no layers; there is a vector for each encoder."""
        self.vectors, self.output_dim = len(self.widths), self.width

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, AttentionWeights]:
        """Return one vector for each encoder."""
        return torch.stack([mean(tokens[name]) for name in self.names], 1), {}


class CrossAttention(Fusion):
    """The tokens of each encoder query those of every other encoder, `depth` times (Vaswani et al. 2017; in both directions
    as in Lu et al. 2019, ViLBERT). The changes are added up. The means of each encoder's tokens are concatenated. queries:
    the encoders whose tokens query; by default all. time_slope: with a number, attention decreases with the distance in time
    (attention with linear biases: Press et al. 2022, ALiBi; here of times in seconds, in both directions, and learned)."""

    feed_forward = 2
    """Width of the feed-forward layers, as a multiple of the tokens' width, if the settings name none."""

    def build(self, options: FusionOptions) -> None:
        """Create a block for each pair of encoders and each step of `depth`."""
        queries, factor = options.queries or self.names, options.feed_forward or self.feed_forward
        self.prefers_near = options.time_slope is not None
        self.pairs = [(query, key) for query in queries for key in self.names if key != query]
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    f"{query}_to_{key}": Block(self.width, options.heads, options.dropout, factor, options.time_slope)
                    for query, key in self.pairs
                }
            )
            for _ in range(options.depth)
        )

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, AttentionWeights]:
        """Return one vector for each clip, and the attention of the last block."""
        attention: AttentionWeights = {}
        for block in self.blocks:
            updated = {name: of_encoder.values for name, of_encoder in tokens.items()}
            for query, key in self.pairs:
                before = tokens[query].values
                distance = measure_distance(tokens[query], tokens[key]) if self.prefers_near else None
                after, weights = block.get_submodule(f"{query}_to_{key}")(
                    before, tokens[key].values, ~tokens[key].mask(), attend, distance
                )
                # the first change is assigned, not added, so that two encoders cause no rounding error
                updated[query] = after if updated[query] is before else updated[query] + (after - before)
                if weights is not None:
                    attention[query, key] = weights
            tokens = {name: of_encoder._replace(values=updated[name]) for name, of_encoder in tokens.items()}
        return torch.cat([mean(tokens[name]) for name in self.names], 1)[:, None], attention


class Multitask(Fusion):
    """The tokens of each of two encoders pass through `depth` transformer layers of their own, and then attend to those of
    the other encoder. The means are concatenated (the fusion of SSL-MEPR, over tokens). `queries` has no effect."""

    projected = False
    pooled = False
    """Whether the tokens of each encoder are averaged first, as published. Attention over one token has no effect."""
    feed_forward = 4
    """As for CrossAttention; 4 as published."""

    def build(self, options: FusionOptions) -> None:
        """Create the layers of both encoders. Raises InputError unless there are two of one width that heads divide."""
        width, heads, dropout = self.width, options.heads, options.dropout
        if len(self.widths) != 2 or set(self.widths.values()) != {width} or width % heads:
            raise InputError(
                f"fusion = multitask with encoders of widths {self.widths} and heads = {heads}; allowed:"
                " two encoders of one width that heads divide"
            )
        inner = (options.feed_forward or self.feed_forward) * width
        layer = nn.TransformerEncoderLayer(width, heads, inner, dropout, batch_first=True)
        self.encoders = nn.ModuleDict(
            {name: nn.TransformerEncoder(layer, options.depth, enable_nested_tensor=False) for name in self.names}
        )
        self.cross = nn.ModuleDict(
            {name: nn.MultiheadAttention(width, heads, dropout, batch_first=True) for name in self.names}
        )
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in self.names})
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, AttentionWeights]:
        """Return one vector for each clip."""
        encoded: dict[str, Tokens] = {}
        for name in self.names:
            inputs = average_tokens(tokens[name]) if self.pooled else tokens[name]
            values = self.encoders[name](inputs.values, src_key_padding_mask=~inputs.mask())
            encoded[name] = inputs._replace(values=values)
        attention: AttentionWeights = {}
        vectors = []
        for query, key in (self.names, self.names[::-1]):
            values, others = encoded[query].values, encoded[key].values
            attended, weights = self.cross[query](
                values, others, others, ~encoded[key].mask(), need_weights=attend, average_attn_weights=False
            )
            if weights is not None and not self.pooled:  # the weight of a single token is always 1
                attention[query, key] = weights
            values = self.norms[query](values + self.dropout(attended))
            vectors.append(mean(encoded[query]._replace(values=values)))
        return torch.cat(vectors, 1)[:, None], attention


class MultitaskPooled(Multitask):
    """Multitask over one token per encoder, the mean of its tokens, as published."""

    pooled = True


FUSIONS: dict[str, type[Fusion]] = {
    "cross_attention": CrossAttention,
    "concat": Concat,
    "plain_concat": PlainConcat,
    "late_average": LateAverage,
    "multitask": Multitask,
    "multitask_pooled": MultitaskPooled,
    "stacked": Stacked,
}


def mean(tokens: Tokens) -> Tensor:
    """Return the mean (B, D) of the tokens that are present."""
    present = tokens.mask().unsqueeze(-1).to(tokens.values.dtype)
    return (tokens.values * present).sum(1) / present.sum(1)


def average_tokens(tokens: Tokens) -> Tokens:
    """Return one token for each clip, the mean of the tokens that are present."""
    return make_clip_token(mean(tokens), tokens.times, tokens.present)
