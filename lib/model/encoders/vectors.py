"""Any stream of vectors (sound, features, embeddings): standardised, averaged over a few steps, a token each."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.core.errors import InputError
from lib.model import encoders
from lib.model.positions import position_encoding
from lib.model.settings.vectors import Settings as Settings
from lib.model.tokens import Tokens
from lib.streams.base import Steps

_QUANTILE_STEPS = 20
"""Number of steps of a clip that count for the quantiles of `winsorise`."""


class Encoder(encoders.Encoder):
    """One or several streams of vectors, side by side.

    Each number is standardised by its mean and standard deviation over the training clips, kept with the weights. A missing
    number (NaN) counts as that mean. With `winsorise`, numbers are first clipped to quantiles of the training clips. net:
    "linear"; "mlp", each token alone; or "transformer", pre-norm layers over all tokens of the clip (Vaswani et al. 2017).
    Of a stream with several layers (L, D), the layers are added with learned weights that sum to 1, as in SUPERB (Yang et
    al. 2021). Raises InputError if a stream has no vectors.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        for stream, shape in zip(settings.reads, shapes, strict=True):
            if len(shape) not in (1, 2) or 0 in shape:
                raise InputError(
                    f"reads has {stream!r}, whose steps are {list(shape)}; allowed for vectors: steps of one dimension, or"
                    " layers of one dimension; choose a stream, or an array that the stream was built with"
                )
        inputs, width, dropout, heads = (
            sum(shape[-1] for shape in shapes),
            settings.width,
            settings.dropout,
            settings.heads,
        )
        if settings.net == "transformer" and (width % 6 or width % heads):
            multiple = math.lcm(6, heads)
            raise InputError(
                f"width = {width}; allowed for a transformer with heads = {heads}: multiples of {multiple}"
            )
        self._settings, self.output_dim, self._shapes = settings, width, [tuple(shape) for shape in shapes]
        numbers = sum(math.prod(shape) for shape in shapes)  # of all layers
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("std", torch.ones(numbers))
        if settings.winsorise:
            self.register_buffer("low", torch.full((numbers,), -torch.finfo(torch.float32).max))
            self.register_buffer("high", torch.full((numbers,), torch.finfo(torch.float32).max))
        layered = (shape for shape in shapes if len(shape) > 1)
        self.layer_logits = nn.ParameterList(nn.Parameter(torch.zeros(shape[0])) for shape in layered)
        self.first = nn.Linear(inputs * (2 if settings.mask else 1), width)
        layers: list[nn.Module] = []
        for _ in range(settings.depth if settings.net != "linear" else 0):
            if settings.net == "mlp":
                layers += [nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)]
            else:
                layers.append(
                    nn.TransformerEncoderLayer(
                        width, heads, settings.feed_forward * width, dropout, "gelu", batch_first=True, norm_first=True
                    )
                )
        self.layers = nn.ModuleList(layers)

    def standardise(self, clips: Iterable[Mapping[str, Steps]]) -> None:
        """Take mean and standard deviation from clips' steps, numpy arrays (T, D) or (T, L, D).

        A constant number becomes 0. With `winsorise`, the quantiles are those of up to _QUANTILE_STEPS steps of each clip,
        evenly spaced; mean and standard deviation are those of the same steps, clipped to the quantiles.
        """
        of_clips: Iterator[Tensor] = (
            self._values({name: torch.from_numpy(clip[name].values) for name in self._settings.reads}) for clip in clips
        )
        if self._settings.winsorise:
            of_clips = iter([self._limit(of_clips)])
        mean, std = compute_mean_and_std(of_clips)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """Vectors (B, T, D) or (B, T, L, D) of each stream to a token for each `pool` of the T steps."""
        first = inputs[self._settings.reads[0]]
        values = self._values({name: inputs[name].values for name in self._settings.reads})
        if self._settings.winsorise:
            values = values.clamp(self.low, self.high)
        standardised = (values - self.mean) / self.std
        missing = standardised.isnan()
        read = self._add_layers(torch.where(missing, 0, standardised))  # a missing number counts as the mean
        if self._settings.mask:
            read = torch.cat([read, self._add_layers(missing.to(read.dtype))], -1)
        tokens, times, present = pool_steps(read, first, self._settings.pool)
        tokens = self.first(tokens)  # (B, N, width)
        if self._settings.net == "transformer":
            tokens = tokens + position_encoding(times, 1, 1, tokens.shape[-1]).to(tokens.dtype)
        for layer in self.layers:
            attends = isinstance(layer, nn.TransformerEncoderLayer)
            tokens = layer(tokens, src_key_padding_mask=~present) if attends else layer(tokens)
        return Tokens(tokens, times, present, (1, 1))

    def list_layer_weights(self) -> dict[str, Tensor]:
        layered = [name for name, shape in zip(self._settings.reads, self._shapes, strict=True) if len(shape) > 1]
        return {name: logits.softmax(0) for name, logits in zip(layered, self.layer_logits, strict=True)}

    def _limit(self, clips: Iterable[Tensor]) -> Tensor:
        """Set the limits of each number from clips' steps (T, D), and return the steps of all clips, clipped."""
        chosen = [
            values[torch.linspace(0, len(values) - 1, min(len(values), _QUANTILE_STEPS)).long()] for values in clips
        ]
        steps = torch.cat(chosen) if chosen else self.mean[None][:0]
        if not len(steps):
            return steps
        fractions = [self._settings.winsorise, 1 - self._settings.winsorise]
        # NumPy, because PyTorch limits the number of values
        low, high = np.nan_to_num(np.nanquantile(steps.numpy(), fractions, axis=0))
        self.low.copy_(torch.from_numpy(low))
        self.high.copy_(torch.from_numpy(high))
        return steps.clamp(self.low, self.high)

    def _values(self, read: Mapping[str, Tensor]) -> Tensor:
        """Return the numbers of all layers of all streams side by side."""
        shapes = zip(self._settings.reads, self._shapes, strict=True)
        return torch.cat([read[name].flatten(-2) if len(shape) > 1 else read[name] for name, shape in shapes], -1)

    def _add_layers(self, values: Tensor) -> Tensor:
        """Return the streams' vectors side by side, each the weighted sum of its layers."""
        if not self.layer_logits:
            return values
        weights, parts = iter(self.layer_logits), []
        for part, shape in zip(
            values.split([math.prod(shape) for shape in self._shapes], -1), self._shapes, strict=True
        ):
            layers = part.unflatten(-1, shape) if len(shape) > 1 else part
            parts.append(next(weights).softmax(0) @ layers if len(shape) > 1 else layers)
        return torch.cat(parts, -1)


def compute_mean_and_std(clips: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (D,) of all clips' steps (T, D), without missing numbers (NaN); 0 and 1 without
    steps.

    The deviation of a constant number is float32's largest number, so that the standardised number is 0.
    """
    steps, count, total, squares = 0, torch.zeros(()).long(), torch.zeros(()).double(), torch.zeros(()).double()
    for values in clips:
        is_number = ~values.isnan()
        values = torch.where(is_number, values, 0).double()
        steps, count = steps + len(values), count + is_number.sum(0)
        total, squares = total + values.sum(0), squares + values.square().sum(0)
    if not steps:
        return torch.zeros(()), torch.ones(())
    count = count.clamp(min=1)  # a number that no clip has gets the mean 0
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean, torch.where(std > 1e-6 * (1 + mean.abs()), std, torch.finfo(torch.float32).max)


def pool_steps(values: Tensor, steps: Steps, pool: int) -> tuple[Tensor, Tensor, Tensor]:
    """Average (B, T, D) over the present steps of each group of `pool` steps; return values, times and present."""
    weights = steps.present.unsqueeze(-1).to(values.dtype)
    if pool == 1:
        return values * weights, steps.times, steps.present
    padding = (0, 0, 0, -values.shape[1] % pool)
    padded = functional.pad(torch.cat([values, steps.times.unsqueeze(-1), weights], -1) * weights, padding)
    sums = padded.unflatten(1, (-1, pool)).sum(2)  # (B, N, D + 2)
    count = sums[..., -1]
    means = sums / count.clamp(min=1).unsqueeze(-1)
    return means[..., :-2], means[..., -2], count > 0
