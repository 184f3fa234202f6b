"""A layer of cross-attention between the tokens of two encoders."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm cross-attention and feed-forward, each with a residual connection.

    factor: width of the feed-forward layer, as a multiple of `width`. time_slope: with a number, each head adds the negative
    distance in time, times its slope, to the logits of attention. The first head starts with the slope `time_slope` per
    second, the others with 2^(-8 / heads) of the slope of the head before (Press et al. 2022, ALiBi). Slopes are learned.
    """

    def __init__(self, width: int, heads: int, dropout: float, factor: int, time_slope: float | None = None) -> None:
        super().__init__()
        self.norm_query, self.norm_key, self.norm_forward = (nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.forward_ = nn.Sequential(
            nn.Linear(width, factor * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(factor * width, width)
        )
        self.log_slopes: nn.Parameter | None = None
        if time_slope is not None:
            self.log_slopes = nn.Parameter((time_slope * 2 ** (-8 / heads * torch.arange(heads))).log())

    def forward(
        self, query: Tensor, key: Tensor, key_padding: Tensor, with_attention: bool, distance: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the changed queries (B, N, D) and, if asked for, the attention (B, heads, N, M).

        key: (B, M, D). key_padding: (B, M), True to ignore. distance: (B, N, M) in seconds; needed with `time_slope`.
        """
        key = self.norm_key(key)
        if self.log_slopes is not None and distance is not None:
            bias = -self.log_slopes.exp()[:, None, None] * distance[:, None]  # (B, heads, N, M)
            bias = bias.masked_fill(key_padding[:, None, None], -torch.inf).flatten(0, 1).to(query.dtype)
        else:
            bias = self._hide_padding(key_padding, query)
        attended, weights = self.attention(
            self.norm_query(query), key, key, need_weights=with_attention, attn_mask=bias, average_attn_weights=False
        )
        query = query + attended
        return query + self.forward_(self.norm_forward(query)), weights

    def _hide_padding(self, key_padding: Tensor, query: Tensor) -> Tensor:
        """Return a bias (B heads, N, M) of the logits that hides padding from queries (B, N, D), a view of (B heads, M).

        It equals the argument `key_padding_mask` of the attention, whose check loads SymPy, which takes 0.4 s.
        """
        bias = torch.zeros_like(key_padding, dtype=query.dtype).masked_fill(key_padding, -torch.inf)
        return bias.repeat_interleave(self.attention.num_heads, 0)[:, None].expand(-1, query.shape[1], -1)
