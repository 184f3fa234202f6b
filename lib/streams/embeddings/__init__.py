"""Embeddings of a clip's faces, frames or prepared images by a frozen network: one vector per image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.core.shards import Record
from lib.streams.base import Stream
from lib.streams.embeddings.settings import Settings


def make_extractor(settings: Settings) -> Callable[[Record], Record]:
    """Return a function that embeds a clip's images. Raises InputError if the network or its weights are not available."""
    from lib.streams.embeddings.embedder import Embedder  # not needed to read the stream's shards

    return Embedder(settings, "embeddings")


def files(settings: Settings) -> list[Path]:
    """Return the network's files: those that the settings name, or that the network's package ships."""
    from lib.streams.embeddings import embedder

    return embedder.files(settings, "embeddings")


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return embeddings (K, D), or (K, L, D) of several layers, float32."""
    return record.arrays["values"][()][indices].astype(np.float32)


STREAM = Stream(
    inputs=("faces", "frames", "pictures"),
    input_key="source",
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    on_gpu=True,
    costly=True,
    files=files,
)
