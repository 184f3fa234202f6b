"""Load a trained model as it was saved, with the parameters that its input must be made with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.errors import InputError
from lib.model.network import Network


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
    network = Network(**(settings | {"static": settings["static"] | {"weights": None}})).to(device)
    network.load_state_dict(saved["weights"])
    return Served(network.eval(), saved["parameters"])
