"""Fusions of encoders' tokens: built with each encoder's width, they return vectors of a clip and attention weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.model.tokens import Tokens

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


FUSIONS: dict[str, type[Concat | CrossAttention]] = {
    "cross_attention": CrossAttention,
    "concat": Concat,
    "plain_concat": PlainConcat,
    "late_average": LateAverage,
}


def mean(tokens: Tokens) -> Tensor:
    """Mean (B, D) of the tokens that are there."""
    there = tokens.mask().unsqueeze(-1).to(tokens.values.dtype)
    return (tokens.values * there).sum(1) / there.sum(1)


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
