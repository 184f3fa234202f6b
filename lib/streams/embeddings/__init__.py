"""Embeddings of a clip's faces by a frozen network: one vector for each of several evenly spaced faces."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lib.core.shards import Record
from lib.streams import base
from lib.streams.base import Stream, StreamSettings


class Settings(StreamSettings):
    """steps: maximum number of faces per clip; side: in pixels; params.yaml explains the other keys."""

    steps: Annotated[int, Field(ge=1, le=4096)]
    side: Annotated[int, Field(ge=32, le=1024)]
    network: str
    weights: str | None
    colour: Literal["rgb", "bgr"]
    stn: bool
    se: Literal["none", "identity", "reference"]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


def make_extractor(settings: Settings) -> Callable[[Record], Record]:
    """Return a function that embeds a clip's faces. Raises InputError if the network or its weights are not available."""
    import torch  # not needed to read the stream's shards
    from torch.nn import functional

    from lib.core.device import best_device
    from lib.streams import faces
    from lib.streams.embeddings import networks

    device = best_device()
    network = (
        networks.build_network(settings.network, settings.weights, settings.stn, settings.se, settings.seed)
        .to(device)
        .eval()
    )
    mean, std = (
        torch.tensor(channels, device=device).view(3, 1, 1) for channels in networks.get_normalisation(settings.network)
    )

    @torch.no_grad()
    def embed(record: Record) -> Record:
        indices = base.choose_evenly(base.present_steps(record), settings.steps)
        pictures = torch.from_numpy(np.ascontiguousarray(faces.read_steps(record, indices))).to(device).float() / 255
        if settings.colour == "bgr":
            pictures = pictures.flip(1)
        size = (settings.side, settings.side)
        if pictures.shape[2:] != size:
            pictures = functional.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)
        values = network((pictures - mean) / std).float().cpu().numpy()
        return Record(record.clip, {"values": values, "times": base.step_times(record)[indices]})

    return embed


def files(settings: Settings) -> list[Path]:
    """Return the weights files that the settings name or that the network's package ships."""
    from lib.streams.embeddings import networks

    return networks.files(settings.network, settings.weights)


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return embeddings (K, D)."""
    return record.arrays["values"][()][indices]


STREAM = Stream(
    inputs=("faces",),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    on_gpu=True,
    files=files,
)
