"""Networks over a clip's MFCC or log-mel spectrogram: recurrent, convolutional, or over the mean alone."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.core.errors import InputError
from lib.model import encoders
from lib.model.encoders.vectors import compute_mean_and_std, pool_steps
from lib.model.recurrent import Last
from lib.model.settings.sound import Settings as Settings
from lib.model.tokens import Tokens, make_clip_token
from lib.streams.base import Steps

_KERNEL = 3


class Encoder(encoders.Encoder):
    """Vectors (T, D) of one stream, standardised and averaged over `pool` steps, to one token a clip, or one a step.

    net: "blstm", two bidirectional LSTMs of `units`, dropout between them; "conv1d_lstm", three convolutions over time with
    `filters`, then an LSTM of `units`; "conv2d", two convolutions over coefficient and time with `filters`, each with a max
    pool of 2, on the last `length` steps, zeros in front of a shorter clip; "mlp", a layer of `units` over the mean over
    time. All end in `width` ReLU units. Convolutions are 3 wide and take nothing from beyond the clip; norm: batch norm
    before or after conv2d's ReLU. standardise: by mean and standard deviation of the "clip" (all its numbers together), of
    each "coefficient" over the clip, or of each over the "training" clips, kept with the weights.
    Raises InputError if it reads several streams or a stream without vectors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        if len(settings.reads) > 1 or len(shapes[0]) != 1:
            raise InputError(
                f"reads = {settings.reads}, steps of {[list(shape) for shape in shapes]}; allowed for"
                " sound: one stream of vectors, for instance audio.mfcc"
            )
        (self._stream,), ((inputs,),) = settings.reads, shapes
        self._settings, self.output_dim = settings, settings.width
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.network, size = _NETS[settings.net](settings, inputs)
        self.last = nn.Sequential(nn.Linear(size, settings.width), nn.ReLU())

    def standardise(self, clips: Iterable[Mapping[str, Steps]]) -> None:
        """Take mean and standard deviation from clips' steps (numpy arrays (T, D)); a constant number becomes 0."""
        if self._settings.sizes.standardise == "training":
            mean, std = compute_mean_and_std(torch.from_numpy(clip[self._stream].values) for clip in clips)
            self.mean.copy_(mean)
            self.std.copy_(std)

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """Vectors (B, T, D) to tokens (B, 1, width), or (B, N, width) with tokens = "steps"."""
        read = inputs[self._stream]
        values, times, present = pool_steps(self._standardise(read), read, self._settings.pool)
        if self._settings.tokens == "clip":
            return make_clip_token(self.last(self.network(values, present)), times, present)
        states, present = cast(Any, self.network).run(values, present)
        lost = times.shape[1] - states.shape[1]  # half of them at each end
        return Tokens(self.last(states), times[:, lost // 2 : times.shape[1] - lost // 2], present, (1, 1))

    def _standardise(self, read: Steps) -> Tensor:
        method, values = self._settings.sizes.standardise, read.values
        if method == "training":
            return (values - self.mean) / self.std
        if method == "none":
            return values
        dimensions = (1, 2) if method == "clip" else (1,)
        weights = read.present[..., None].to(values.dtype).expand_as(values)
        count = weights.sum(dimensions, keepdim=True)
        mean = (values * weights).sum(dimensions, keepdim=True) / count
        std = (((values - mean) * weights).square().sum(dimensions, keepdim=True) / count).sqrt()
        return (values - mean) / torch.where(std > 1e-6 * (1 + mean.abs()), std, torch.inf)


class _Blstm(nn.Module):
    def __init__(self, settings: Settings, inputs: int) -> None:
        super().__init__()
        units = settings.sizes.units
        self.first = Last("lstm", inputs, units, bidirectional=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.second = Last("lstm", 2 * units, units, bidirectional=True)

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        return self.second(self.dropout(self.first.run(values, present)[0]), present)

    def run(self, values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return self.second.run(self.dropout(self.first.run(values, present)[0]), present)[0], present


class _Conv1dLstm(nn.Module):
    def __init__(self, settings: Settings, inputs: int) -> None:
        super().__init__()
        filters = settings.sizes.filters
        channels = [inputs, *filters]
        self.convolutions = nn.ModuleList(nn.Conv1d(before, after, _KERNEL) for before, after in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm1d(count, eps=1e-3) for count in filters)
        self.lstm = Last("lstm", channels[-1], settings.sizes.units)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        return self.dropout(self.lstm(*self._convolve(values, present)))

    def run(self, values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        convolved, present = self._convolve(values, present)
        return self.dropout(self.lstm.run(convolved, present)[0]), present

    def _convolve(self, values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the convolved values (B, N, C), and which of them depend on present steps only (B, N)."""
        lacking = (_KERNEL - 1) * len(self.convolutions) + 1 - values.shape[1]
        if lacking > 0:
            values, present = functional.pad(values, (0, 0, 0, lacking)), functional.pad(present, (0, lacking))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            values = convolution(values.transpose(1, 2)).transpose(1, 2)
            present = present[:, _KERNEL - 1 :]
            short = ~present.any(1)  # a clip shorter than the kernels keeps its first step
            present = torch.cat([present[:, :1] | short[:, None], present[:, 1:]], 1)
            if torch.compiler.is_exporting():  # all steps are present
                values = norm(values.transpose(1, 2)).transpose(1, 2).relu()
                continue
            normed = torch.zeros_like(values)
            normed[present] = norm(values[present])  # statistics of present steps
            values = normed.relu()
        return values, present


class _Conv2d(nn.Module):
    def __init__(self, settings: Settings, inputs: int, length: int) -> None:
        super().__init__()
        self.length, self._norm_first = length, settings.norm == "before"
        filters = settings.sizes.filters
        channels = [1, *filters]
        self.convolutions = nn.ModuleList(nn.Conv2d(before, after, _KERNEL) for before, after in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, eps=1e-3) for count in filters)
        self.pool = nn.MaxPool2d(2)

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        """From values (B, T, D), whose first steps are present (B, T), to (B, C d t)."""
        maps = self.padded(values, present).transpose(1, 2)[:, None]  # (B, 1, D, length)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps = convolution(maps)
            maps = self.pool(norm(maps).relu() if self._norm_first else norm(maps.relu()))
        return maps.flatten(1)

    def padded(self, values: Tensor, present: Tensor) -> Tensor:
        """Return the last `length` steps (B, length, D), zeros in front of a shorter clip."""
        steps = present.sum(1, keepdim=True) - self.length + torch.arange(self.length, device=values.device)
        last = values.gather(1, steps.clamp(min=0)[..., None].expand(-1, -1, values.shape[2]))
        return last * (steps >= 0)[..., None]


class _MeanMlp(nn.Module):
    def __init__(self, settings: Settings, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, settings.sizes.units), nn.ReLU(), nn.Dropout(settings.dropout))

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        weights = present[..., None].to(values.dtype)
        return self.layers((values * weights).sum(1) / weights.sum(1))


def _conv2d(settings: Settings, inputs: int) -> tuple[nn.Module, int]:
    if settings.length is None:
        raise InputError("length = null, which training takes from its clips; allowed here: a number")
    sides = [inputs, settings.length]
    filters = settings.sizes.filters
    for _ in filters:
        sides = [(side - _KERNEL + 1) // 2 for side in sides]
    if min(sides) < 1:
        raise InputError(f"reads has vectors of {inputs} numbers; allowed for conv2d: 10 or more")
    return _Conv2d(settings, inputs, settings.length), filters[-1] * sides[0] * sides[1]


_NETS = {
    "blstm": lambda settings, inputs: (_Blstm(settings, inputs), 2 * settings.sizes.units),
    "conv1d_lstm": lambda settings, inputs: (_Conv1dLstm(settings, inputs), settings.sizes.units),
    "conv2d": _conv2d,
    "mlp": lambda settings, inputs: (_MeanMlp(settings, inputs), settings.sizes.units),
}
