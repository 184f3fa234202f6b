"""Load pretrained weights into a backbone, and report weights that do not fit."""

import argparse
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.imports import import_torchvision

torchvision = import_torchvision()

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, RGB in [0, 1]. Networks trained on it expect normalised images."""

_CLASSIFIER = ("fc.", "heads.", "classifier.1.", "classifier.2.", "last_linear.", "last_bn.", "logits.", "AuxLogits.")


def load_weights(
    network: nn.Module,
    backbone: str,
    weights: str | None,
    corpus: str,
    classifier: tuple[str, ...] = _CLASSIFIER,
) -> None:
    """Load weights into all layers but the classifier, whose weights' names begin with one of `classifier`.

    weights: None for no weights, the name `corpus` ("imagenet" or "kinetics") for torchvision's pretrained weights, or the
    path of a state dict. Raises InputError if they can't be read or downloaded, or if a weight is missing, is not expected
    or has another shape.
    """
    if weights is None:
        return
    state = _download(backbone, weights) if weights == corpus else _read(weights, corpus)
    if backbone.startswith("vit_"):  # the files that torchvision offers have its older names
        state = {re.sub(r"\.mlp\.linear_([12])\.", _numbered, name): value for name, value in state.items()}
    classifier = (*classifier, "classifier.") if backbone.startswith("vgg") else classifier
    expected, state = (
        {name: value for name, value in values.items() if not name.startswith(classifier)}
        for values in (network.state_dict(), state)
    )
    wrong = find_mismatches(expected, state)
    if wrong:
        raise InputError(f"weights = {weights!r} do not fit {backbone}: {summarise_mismatches(wrong)}")
    network.load_state_dict(state, strict=False)


def _numbered(match: re.Match[str]) -> str:
    return f".mlp.{3 * (int(match[1]) - 1)}."


def find_mismatches(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return a text for each weight that is missing in `state`, is not expected or has another shape, sorted by name."""
    wrong = [f"{key} is missing" for key in expected.keys() - state.keys()]
    wrong += [f"{key} is not expected" for key in state.keys() - expected.keys()]
    wrong += [
        f"{key} is {list(state[key].shape)}, not {list(expected[key].shape)}"
        for key in expected.keys() & state.keys()
        if expected[key].shape != state[key].shape
    ]
    return sorted(wrong)


def _read(weights: str, corpus: str) -> Mapping[str, Tensor]:
    if not Path(weights).is_file():
        raise InputError(f"weights = {weights!r}; allowed: null, {corpus}, or the path of a state dict")
    return torch.load(weights, map_location="cpu", weights_only=True)


def _download(backbone: str, weights: str) -> Mapping[str, Tensor]:
    try:
        choice = torchvision.models.get_model_weights(backbone).DEFAULT
    except ValueError:
        choice = None
    if choice is None or ("kinetics" in str(choice).lower()) != (weights == "kinetics"):
        raise InputError(
            f"weights = {weights!r}; torchvision has none for {backbone}; allowed: null, or the path of a state dict"
        )
    try:
        return choice.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError) as error:
        raise InputError(
            f"weights = {weights!r} of {backbone} can't be downloaded ({error}); copy {choice.url} to this machine and set"
            " weights to its path"
        ) from None


def load_published(path: str, argument: str, allowed: str) -> dict[str, Tensor]:
    """Return the weights of a published checkpoint, without the dictionaries that wrap them.

    Raises InputError if it can't be read. Its text names the `argument` that is the path, and what is `allowed` instead.
    """
    if not Path(path).is_file():
        raise InputError(f"{argument} = {path!r} is not a file; {allowed}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # of the options that a training was started with
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # PyTorch's text recommends to run the code in the file
        raise InputError(
            f"{argument} = {path!r} is not a file of weights, or contains code, which was not run; get the file again"
        ) from None
    except (RuntimeError, EOFError, ValueError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{argument} = {path!r} can't be read as weights ({cause}); get the file again") from None
    for wrapper in ("weights", "model_state_dict", "model", "state_dict", "network"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
            break
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            f"{argument} = {path!r} contains no state dict; allowed: a state dict, alone or under"
            " the key model or state_dict"
        )
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_imagenet(backbone: str) -> Mapping[str, Tensor]:
    """Return torchvision's weights of a backbone. Raises InputError if they can't be downloaded."""
    return _download(backbone, "imagenet")


def summarise_mismatches(wrong: Sequence[str]) -> str:
    """Return the first of several mismatches, and the number of others."""
    return "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
