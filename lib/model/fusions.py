"""Fusions of encoders' tokens: built with each encoder's width, they return vectors of a clip and attention weights."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.model.tokens import Tokens, of_clip

Attention = dict[tuple[str, str], Tensor]
"""Of (query, key), two encoders' names: (B, heads, N_query, N_key)."""


class Fusion(nn.Module):
    """Combines the tokens of all encoders into vectors of a clip. Read this before writing a fusion, then add it to FUSIONS.

    A subclass implements `forward`. If its vectors are not as wide as all encoders' tokens together, it sets `output_dim`.

    widths: width of each encoder's tokens, by name. queries, heads, depth, dropout: as in the section model of params.yaml;
    a fusion may ignore any.
    """

    projected: ClassVar[bool] = True
    """Whether the fusion needs tokens of one common width that contain their position in time and space."""
    vectors: int = 1
    """Number of vectors for a clip. Each makes a prediction, and the head combines them."""
    output_dim: int
    """Width D of a vector."""

    def __init__(
        self,
        widths: Mapping[str, int],
        queries: Sequence[str] = (),
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.names, self.output_dim = tuple(widths), sum(widths.values())

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """Return vectors (B, vectors, output_dim) and, if `attend`, attention weights.

        tokens: (B, N, width) of each encoder, by name; N differs between encoders. Tokens that are not present
        (`Tokens.mask`) must have no effect. The attention is empty for a fusion without any.
        """
        raise NotImplementedError


class Concat(Fusion):
    """Mean of each encoder's tokens, concatenated."""

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """Return one vector for each clip."""
        return torch.cat([mean(tokens[name]) for name in self.names], 1)[:, None], {}


class PlainConcat(Concat):
    """Mean of each encoder's tokens, as the encoder gives them, concatenated."""

    projected = False


class LateAverage(Concat):
    """Each encoder predicts by itself from the mean of its tokens; the predictions are averaged (late fusion)."""

    def __init__(
        self,
        widths: Mapping[str, int],
        queries: Sequence[str] = (),
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(widths, queries, heads, depth, dropout)
        self.vectors, self.output_dim = len(widths), next(iter(widths.values()))

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """Return a vector of each encoder."""
        return torch.stack([mean(tokens[name]) for name in self.names], 1), {}


class CrossAttention(Fusion):
    """Each encoder's tokens query every other's, `depth` times (Vaswani et al. 2017; both ways as in Lu et al. 2019,
    ViLBERT), and what each other adds is added up; then the mean of each, concatenated. queries: who does so; []: all."""

    def __init__(
        self,
        widths: Mapping[str, int],
        queries: Sequence[str] = (),
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(widths)
        width = next(iter(widths.values()))
        self.pairs = [(query, key) for query in (queries or self.names) for key in self.names if key != query]
        self.blocks = nn.ModuleList(
            nn.ModuleDict({f"{query}_to_{key}": _Block(width, heads, dropout) for query, key in self.pairs})
            for _ in range(depth)
        )

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """Return one vector for each clip, and the attention of the last block."""
        attention: Attention = {}
        for block in self.blocks:
            updated = {name: one.values for name, one in tokens.items()}
            for query, key in self.pairs:
                before = tokens[query].values
                after, weights = block.get_submodule(f"{query}_to_{key}")(
                    before, tokens[key].values, ~tokens[key].mask(), attend
                )
                # the first key's is taken as it is: with two encoders nothing is rounded
                updated[query] = after if updated[query] is before else updated[query] + (after - before)
                if weights is not None:
                    attention[query, key] = weights
            tokens = {name: one._replace(values=updated[name]) for name, one in tokens.items()}
        return torch.cat([mean(tokens[name]) for name in self.names], 1)[:, None], attention


class Multitask(Fusion):
    """Each of two encoders' tokens through `depth` transformer layers of its own, then each looks at the other's; the mean
    of each, concatenated (the fusion of SSL-MEPR, over tokens). queries has no effect: both query."""

    projected = False
    pooled = False
    """Whether each encoder's tokens are averaged before all else, as published: attention over one token is none."""

    def __init__(
        self,
        widths: Mapping[str, int],
        queries: Sequence[str] = (),
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(widths)
        width = next(iter(widths.values()))
        if len(widths) != 2 or set(widths.values()) != {width} or width % heads:
            raise InputError(
                f"fusion = multitask with encoders of widths {dict(widths)} and heads = {heads}; allowed:"
                " two encoders of one width that heads divide"
            )
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True)
        self.encoders = nn.ModuleDict(
            {name: nn.TransformerEncoder(layer, depth, enable_nested_tensor=False) for name in self.names}
        )
        self.cross = nn.ModuleDict(
            {name: nn.MultiheadAttention(width, heads, dropout, batch_first=True) for name in self.names}
        )
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in self.names})
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """Return one vector for each clip."""
        own = {name: _one(tokens[name]) if self.pooled else tokens[name] for name in self.names}
        for name, one in own.items():
            own[name] = one._replace(values=self.encoders[name](one.values, src_key_padding_mask=~one.mask()))
        attention: Attention = {}
        vectors = []
        for query, key in (self.names, self.names[::-1]):
            mine, other = own[query].values, own[key].values
            found, weights = self.cross[query](
                mine, other, other, ~own[key].mask(), need_weights=attend, average_attn_weights=False
            )
            if weights is not None and not self.pooled:  # one token looks at one
                attention[query, key] = weights
            vectors.append(mean(own[query]._replace(values=self.norms[query](mine + self.dropout(found)))))
        return torch.cat(vectors, 1)[:, None], attention


class MultitaskPooled(Multitask):
    """Multitask over one token an encoder, the mean of its tokens, as published."""

    pooled = True


FUSIONS: dict[str, type[Fusion]] = {
    "cross_attention": CrossAttention,
    "concat": Concat,
    "plain_concat": PlainConcat,
    "late_average": LateAverage,
    "multitask": Multitask,
    "multitask_pooled": MultitaskPooled,
}


def mean(tokens: Tokens) -> Tensor:
    """Mean (B, D) of the tokens that are there."""
    there = tokens.mask().unsqueeze(-1).to(tokens.values.dtype)
    return (tokens.values * there).sum(1) / there.sum(1)


def _one(tokens: Tokens) -> Tokens:
    """The mean of the tokens that are there as the only one."""
    return of_clip(mean(tokens), tokens.times, tokens.present)


class _Block(nn.Module):
    """Pre-norm cross-attention and feed-forward, each with a residual connection."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_query, self.norm_key, self.norm_forward = (nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.forward_ = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(
        self, query: Tensor, key: Tensor, key_padding: Tensor, with_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        key = self.norm_key(key)
        attended, weights = self.attention(
            self.norm_query(query), key, key, key_padding, need_weights=with_attention, average_attn_weights=False
        )
        query = query + attended
        return query + self.forward_(self.norm_forward(query)), weights
