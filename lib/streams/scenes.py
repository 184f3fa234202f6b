"""A second stream of embeddings, by default of complete frames, so that a model can read faces and scenes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lib.core.shards import Record
from lib.streams import embeddings
from lib.streams.embeddings.settings import Settings


def make_extractor(settings: Settings) -> Callable[[Record], Record]:
    """Return a function that embeds a clip's images. Raises InputError if the network or its weights are not available."""
    from lib.streams.embeddings.embedder import Embedder  # not needed to read the stream's shards

    return Embedder(settings, "scenes")


def files(settings: Settings) -> list[Path]:
    """Return the network's files: those that the settings name, or that the network's package ships."""
    from lib.streams.embeddings import embedder

    return embedder.files(settings, "scenes")


STREAM = replace(embeddings.STREAM, make_extractor=make_extractor, files=files)
