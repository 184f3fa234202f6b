"""Load a trained model as it was saved, with the parameters that its input must be made with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.core.errors import InputError
from lib.model.network import Network
from lib.model.weights import misfits


@dataclass(frozen=True)
class Served:
    """A network in evaluation mode and the sections frames, faces, flow and model that belong to it."""

    network: Network
    parameters: dict[str, Any]


def load(path: Path, device: torch.device) -> Served:
    """Load data/model.pt; its weights replace any that its parameters name. Raises InputError if it isn't there."""
    if not path.exists():
        raise InputError(f"{path} is missing; run `dvc repro train`")
    saved = torch.load(path, map_location=device, weights_only=True)
    settings = saved["parameters"]["model"]
    untrained = {stream: settings[stream] | {"weights": None} for stream in ("static", "dynamic")}
    network = Network(**(settings | untrained)).to(device)
    network.load_state_dict(saved["weights"])
    return Served(network.eval(), saved["parameters"])


def warm_start(network: Network, path: Path) -> None:
    """Load the weights of an older data/model.pt into a network. Raises InputError if it isn't there or is of another
    shape."""
    if not path.is_file():
        raise InputError(
            f"params.yaml: train.init = {str(path)!r} is no file; allowed: null, or the path of a model.pt"
        )
    weights = torch.load(path, map_location="cpu", weights_only=True)["weights"]
    if wrong := misfits(network.state_dict(), weights):
        raise InputError(
            f"params.yaml: train.init = {str(path)!r} is a model of another shape ({len(wrong)} weights differ, first"
            f" {wrong[0]}); set the section model as it was trained with, or train.init to null"
        )
    network.load_state_dict(weights)
