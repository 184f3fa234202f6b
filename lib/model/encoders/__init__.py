"""Encoders, a module each, found by name: from the steps of one or several streams to tokens.

A module has two classes. `Settings`, a subclass of EncoderInputs, is the encoder's entry under model.encoders in
params.yaml; its `kind` is the module's name. `Encoder`, a subclass of the class Encoder below, is built as
Encoder(settings, shapes), where shapes are those of a step of each stream in settings.reads.
"""

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lib.core.errors import InputError, SettingError, prefix_errors
from lib.core.parameters import check
from lib.core.registry import list_members
from lib.data.inputs import EncoderInputs, split_reference
from lib.model.tokens import Tokens
from lib.streams.base import Steps

_NAME = re.compile(r"\w+")


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


def list_kinds() -> list[str]:
    """Return the names of all kinds of encoders."""
    return list_members(Path(__file__).parent)


def find_module_name(kind: str) -> str:
    """Return the name of the module of a kind."""
    return f"{__name__}.{kind}"


def check_settings(encoders: Mapping[str, Mapping[str, Any]]) -> dict[str, EncoderInputs]:
    """Return the checked settings of the encoders under model.encoders. Raises InputError for invalid settings."""
    settings: dict[str, EncoderInputs] = {}
    for name, values in encoders.items():
        key, kind = f"model.encoders.{name}", values.get("kind")
        if not _NAME.fullmatch(name) or name == "head":
            raise SettingError(f"{key}; allowed: names of letters, digits and _, but not head")
        if kind not in list_kinds():
            raise SettingError(f"{key}.kind = {kind!r}; allowed: {', '.join(list_kinds())}")
        settings[name] = check(dict(values), importlib.import_module(find_module_name(str(kind))).Settings, key)
        if not settings[name].reads:
            raise SettingError(f"{key}.reads = []; allowed: one or several streams")
        for reference in settings[name].reads:
            try:
                split_reference(reference)
            except InputError as error:
                raise SettingError(f"{key}.reads has {reference!r}: {error}") from None
    return settings


def require_image_stream(settings: EncoderInputs, shapes: Sequence[Sequence[int]], *channels: int) -> str:
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


def build(name: str, settings: EncoderInputs, shapes: Sequence[Sequence[int]]) -> Encoder:
    """Return the encoder `name` of params.yaml. Raises InputError if its settings don't fit its streams."""
    module = importlib.import_module(find_module_name(settings.kind))
    with prefix_errors(f"model.encoders.{name}."):
        return module.Encoder(settings, shapes)
