"""Encoders, a module each, found by name: from the steps of one or several streams to tokens.

A module has two classes. `Settings`, a subclass of EncoderSettings, is the encoder's entry under model.encoders in
params.yaml; its `kind` is the module's name. `Encoder`, a subclass of the class Encoder below, is built as
Encoder(settings, shapes), where shapes are those of a step of each stream in settings.reads. The class Settings can be in
lib/model/settings/KIND.py, from which the encoder's module then imports it: params.yaml is checked without PyTorch.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from lib.core.errors import InputError, prefix_errors
from lib.data.inputs import EncoderSettings
from lib.model.settings import find_module_name
from lib.model.tokens import Tokens
from lib.streams.base import Steps


class Encoder(nn.Module):
    """Turns the steps of one or several streams into tokens. Read this before writing an encoder.

    A subclass sets `output_dim` and implements `forward`. It may override `standardise`, and set `penalty`. The tokens of a
    clip must not depend on the other clips of the batch, nor on steps that are not present: a batch is padded to its
    longest clip.
    """

    output_dim: int
    """Width D of a token."""
    penalty: Tensor | None = None
    """A term that `forward` adds to the loss in training. The network resets it after each batch."""

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """Return the tokens of a batch. inputs: steps (B, T, ...) by reference, for instance `faces` or `audio.mfcc`."""
        raise NotImplementedError

    def standardise(self, clips: Iterable[Mapping[str, Steps]]) -> None:
        """Compute what the encoder needs from the training clips, once before training; by default nothing.

        clips: the inputs of each training clip, numpy arrays (T, ...) by reference.
        """

    def list_layer_weights(self) -> dict[str, Tensor]:
        """Return the learned weights (L,) of the layers of each stream that has several, by reference; by default none."""
        return {}


def require_image_stream(settings: EncoderSettings, shapes: Sequence[Sequence[int]], *channels: int) -> str:
    """Return the reference to the one stream that is read.

    channels: allowed numbers of channels C. Raises InputError if there are several streams, or its steps are not (C, H, W).
    """
    if len(settings.reads) > 1:
        raise InputError(f"reads = {settings.reads}; allowed for {settings.kind}: one stream")
    (stream,), (shape,) = settings.reads, shapes
    if len(shape) != 3 or shape[0] not in channels:
        raise InputError(
            f"reads has {stream!r}, whose steps are {list(shape)}; allowed for {settings.kind}:"
            f" {' or '.join(f'[{count}, height, width]' for count in channels)}"
        )
    return stream


def build(name: str, settings: EncoderSettings, shapes: Sequence[Sequence[int]]) -> Encoder:
    """Return the encoder `name` of params.yaml. Raises InputError if its settings don't fit its streams."""
    module = importlib.import_module(find_module_name(settings.kind))
    with prefix_errors(f"model.encoders.{name}."):
        return module.Encoder(settings, shapes)
