"""Encoders, a module each, found by name: from the steps of one or several streams to tokens.

A module has Settings (its entry under model.encoders in params.yaml, with `kind`, the module's name) and Encoder, built with
these settings, the shapes of a step of what it reads, and the settings' key for messages. An Encoder has `output_dim`, and a
forward from {reference: Steps (B, T, ...)} to Tokens; with a method `standardise` it is shown the training clips before.
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.data.dataset import EncoderInputs, split_reference

_NAME = re.compile(r"\w+")


def kinds() -> list[str]:
    """Return the names of all kinds of encoders."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def module_of(kind: str) -> str:
    """Return the name of the module of a kind."""
    return f"{__name__}.{kind}"


def settings_of(encoders: Mapping[str, Mapping[str, Any]]) -> dict[str, EncoderInputs]:
    """Return the checked settings of the encoders under model.encoders. Raises InputError for what is wrong."""
    found: dict[str, EncoderInputs] = {}
    for name, given in encoders.items():
        key, kind = f"model.encoders.{name}", given.get("kind")
        if not _NAME.fullmatch(name) or name == "head":
            raise InputError(f"params.yaml: {key}; allowed are names of letters, digits and _, but not head")
        if kind not in kinds():
            raise InputError(f"params.yaml: {key}.kind = {kind!r}; allowed: {', '.join(kinds())}")
        found[name] = check(dict(given), importlib.import_module(module_of(str(kind))).Settings, key)
        if not found[name].reads:
            raise InputError(f"params.yaml: {key}.reads = []; allowed: one or several streams")
        for one in found[name].reads:
            try:
                split_reference(one)
            except InputError as error:
                raise InputError(f"params.yaml: {key}.reads has {one!r}: {error}") from None
    return found


def only_stream(settings: EncoderInputs, shapes: Sequence[Sequence[int]], channels: int, key: str) -> str:
    """Return the reference to the one stream that is read.

    Raises InputError if there are several, or its steps are not (`channels`, H, W).
    """
    if len(settings.reads) > 1:
        raise InputError(f"params.yaml: {key}.reads = {settings.reads}; allowed for {settings.kind}: one stream")
    (stream,), (shape,) = settings.reads, shapes
    if len(shape) != 3 or shape[0] != channels:
        raise InputError(
            f"params.yaml: {key}.reads has {stream!r}, whose steps are {list(shape)}; allowed for {settings.kind}:"
            f" [{channels}, height, width]"
        )
    return stream


def build(name: str, settings: EncoderInputs, shapes: Sequence[Sequence[int]]) -> nn.Module:
    """Return the encoder of that name."""
    module = importlib.import_module(module_of(settings.kind))
    return module.Encoder(settings, shapes, f"model.encoders.{name}")
