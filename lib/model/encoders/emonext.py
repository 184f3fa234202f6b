"""EmoNeXt over single pictures, trained end to end: a token each."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.model import encoders
from lib.model.settings.emonext import Settings as Settings
from lib.model.tokens import Tokens, make_map_tokens
from lib.streams.base import Steps
from lib.streams.embeddings import networks
from lib.streams.embeddings.emonext import SIZES, EmoNeXt

_LEAST = 32  # pixels that become a cell of the last map


class Encoder(encoders.Encoder):
    """EmoNeXt (El Boudouri and Bohi 2023) over pictures of any size from 32 pixels on, an embedding each.

    In training with `attention_loss` the module has a `penalty`, that weight times `AttentionPenalty`'s loss over the
    batch's pictures. Raises InputError if the pictures or the weights don't fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._stream = encoders.require_image_stream(settings, shapes, 3)
        if min(shapes[0][1:]) < _LEAST:
            raise InputError(
                f"reads = {settings.reads}, images of {shapes[0][2]} x {shapes[0][1]} pixels; allowed for emonext: from"
                f" {_LEAST} on"
            )
        depths, channels = SIZES[settings.network]
        self.network = EmoNeXt(
            depths,
            channels,
            stn=settings.stn,
            se=settings.se,
            drop_path=settings.drop_path,
            reduction=settings.reduction,
        )
        if settings.weights is not None:
            networks.load_emonext(self.network, settings.network, settings.weights, "train")
        self.output_dim, self._weight = channels[-1], settings.attention_loss
        self.attention = AttentionPenalty(self.output_dim) if self._weight else None
        mean, std = networks.get_normalisation(settings.network)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """From images (B, T, 3, H, W) in [0, 1] to tokens (B, T, D)."""
        images = inputs[self._stream]
        embeddings = self.network((images.values.flatten(0, 1) - self.mean) / self.std)  # (B T, D)
        if self.attention is not None and self.training:
            self.penalty = self._weight * self.attention(embeddings[images.present.flatten()])
        maps = embeddings.unflatten(0, images.times.shape).transpose(1, 2)[..., None, None]
        return make_map_tokens(maps, images.times, images.present)


class AttentionPenalty(nn.Module):
    """EmoNeXt's attention over the embeddings of a batch. It only regularises training: the attended values are not used,
    and prediction does not call it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)

    def weights(self, embeddings: Tensor) -> Tensor:
        """Return weights (N, N), whose rows sum to 1, of embeddings (N, D); scaled by the fourth root of D, as published."""
        normed = self.norm(embeddings)
        products = self.query(normed) @ self.key(normed).T
        return (products * embeddings.shape[1] ** -0.25).softmax(-1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the mean squared distance of the weights (N, N) from their mean: 0 for uniform attention."""
        weights = self.weights(embeddings)
        return (weights - weights.mean()).square().mean()
