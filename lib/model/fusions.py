"""Fusions of encoders' tokens: built with each encoder's width, they return vectors of a clip and attention weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.model.tokens import Tokens, of_clip

Attention = dict[tuple[str, str], Tensor]
"""Of (query, key), two encoders' names: (B, heads, N_query, N_key)."""


class Concat(nn.Module):
    """Mean of each encoder's tokens, concatenated."""

    projected = True
    """Whether tokens come in one common width, with their places in time and picture."""

    def __init__(
        self, widths: Mapping[str, int], queries: Sequence[str], heads: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.names = tuple(widths)
        self.vectors, self.output_dim = 1, sum(widths.values())

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """Tokens (B, N_i, width_i) of each encoder to (B, vectors, output_dim), of which each vector makes a prediction, and
        to the attention weights, if asked for and where there are any."""
        return torch.cat([mean(tokens[name]) for name in self.names], 1)[:, None], {}


class PlainConcat(Concat):
    """Mean of each encoder's tokens, as the encoder gives them, concatenated."""

    projected = False


class LateAverage(Concat):
    """Each encoder predicts by itself from the mean of its tokens; the predictions are averaged (late fusion)."""

    def __init__(
        self, widths: Mapping[str, int], queries: Sequence[str], heads: int, depth: int, dropout: float
    ) -> None:
        super().__init__(widths, queries, heads, depth, dropout)
        self.vectors, self.output_dim = len(widths), next(iter(widths.values()))

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """As Concat's."""
        return torch.stack([mean(tokens[name]) for name in self.names], 1), {}


class CrossAttention(nn.Module):
    """Each encoder's tokens query every other's, `depth` times (Vaswani et al. 2017; both ways as in Lu et al. 2019,
    ViLBERT), and what each other adds is added up; then the mean of each, concatenated. queries: who does so; []: all."""

    projected = True

    def __init__(
        self, widths: Mapping[str, int], queries: Sequence[str], heads: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.names = tuple(widths)
        width = next(iter(widths.values()))
        self.pairs = [(query, key) for query in (queries or self.names) for key in self.names if key != query]
        self.vectors, self.output_dim = 1, sum(widths.values())
        self.blocks = nn.ModuleList(
            nn.ModuleDict({f"{query}_to_{key}": _Block(width, heads, dropout) for query, key in self.pairs})
            for _ in range(depth)
        )

    def forward(self, tokens: Mapping[str, Tokens], attend: bool = False) -> tuple[Tensor, Attention]:
        """As Concat's; the attention is the last block's."""
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


class Multitask(nn.Module):
    """Each of two encoders' tokens through `depth` transformer layers of its own, then each looks at the other's; the mean
    of each, concatenated (the fusion of SSL-MEPR, over tokens). queries has no effect: both query."""

    projected = False
    pooled = False
    """Whether each encoder's tokens are averaged before all else, as published: attention over one token is none."""

    def __init__(
        self, widths: Mapping[str, int], queries: Sequence[str], heads: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.names = tuple(widths)
        width = next(iter(widths.values()))
        if len(widths) != 2 or set(widths.values()) != {width} or width % heads:
            raise InputError(
                f"params.yaml: model.fusion = multitask with encoders of widths {widths} and model.heads = {heads}; allowed:"
                " two encoders of one width that heads divide"
            )
        self.vectors, self.output_dim = 1, 2 * width
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
        """As Concat's."""
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


FUSIONS: dict[str, type[Concat | CrossAttention | Multitask]] = {
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
