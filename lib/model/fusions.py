"""Fusions of token sequences: built with their streams' width, they return one vector a clip and attention weights."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

Attention = dict[str, Tensor]


class Pool(nn.Module):
    """Mean of each stream's tokens, concatenated: the baselines `concat`, `static` and `dynamic`."""

    def __init__(self, streams: tuple[str, ...], width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.streams = streams
        self.vectors, self.output_dim = 1, width * len(streams)

    def forward(
        self, tokens: Mapping[str, Tensor], padding: Mapping[str, Tensor], with_attention: bool = False
    ) -> tuple[Tensor, Attention]:
        """tokens: (B, N_i, width) a stream; padding: (B, N_i), True where there is no token.

        Returns (B, vectors, output_dim), of which each vector makes a prediction, and the attention weights.
        """
        means = [_mean(tokens[name], padding[name]) for name in self.streams]
        return torch.cat(means, 1)[:, None], {}


class LateAverage(Pool):
    """Each stream predicts by itself from the mean of its tokens; the predictions are averaged (late fusion)."""

    def __init__(self, streams: tuple[str, ...], width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__(streams, width, heads, depth, dropout)
        self.vectors, self.output_dim = len(streams), width

    def forward(
        self, tokens: Mapping[str, Tensor], padding: Mapping[str, Tensor], with_attention: bool = False
    ) -> tuple[Tensor, Attention]:
        """As Pool's."""
        return torch.stack([_mean(tokens[name], padding[name]) for name in self.streams], 1), {}


class CrossAttention(nn.Module):
    """Streams' tokens query the other's, `depth` times (Vaswani et al. 2017; both ways as in Lu et al. 2019, ViLBERT);
    then the mean of each, concatenated. `queries`: the streams that do so."""

    def __init__(
        self,
        streams: tuple[str, ...],
        width: int,
        heads: int,
        depth: int,
        dropout: float,
        queries: tuple[str, ...] = ("static", "dynamic"),
    ) -> None:
        super().__init__()
        self.streams, self.queries = streams, queries
        self.vectors, self.output_dim = 1, width * len(streams)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({name: _Block(width, heads, dropout) for name in queries}) for _ in range(depth)
        )

    def forward(
        self, tokens: Mapping[str, Tensor], padding: Mapping[str, Tensor], with_attention: bool = False
    ) -> tuple[Tensor, Attention]:
        """As Pool's; the attention, if asked for, is the last block's: QUERIES_to_KEYS (B, heads, N_queries, N_keys)."""
        attention: Attention = {}
        for block in self.blocks:
            updated = dict(tokens)
            for query in self.queries:
                key = next(name for name in self.streams if name != query)
                updated[query], weights = block.get_submodule(query)(
                    tokens[query], tokens[key], padding[key], with_attention
                )
                if weights is not None:
                    attention[f"{query}_to_{key}"] = weights
            tokens = updated
        means = [_mean(tokens[name], padding[name]) for name in self.streams]
        return torch.cat(means, 1)[:, None], attention


BOTH = ("static", "dynamic")
FUSIONS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "cross_attention": (CrossAttention, BOTH),
    "static_to_dynamic": (partial(CrossAttention, queries=("static",)), BOTH),
    "dynamic_to_static": (partial(CrossAttention, queries=("dynamic",)), BOTH),
    "concat": (Pool, BOTH),
    "late_average": (LateAverage, BOTH),
    "static": (Pool, ("static",)),
    "dynamic": (Pool, ("dynamic",)),
}
"""Name: the class and the streams that it takes. X_to_Y is cross-attention in one direction: X's tokens query Y's."""


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


def _mean(tokens: Tensor, padding: Tensor) -> Tensor:
    present = (~padding).unsqueeze(-1).to(tokens.dtype)
    return (tokens * present).sum(1) / present.sum(1)
