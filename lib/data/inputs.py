"""The inputs of an encoder: which streams it reads, and which steps of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.data.samplers import SAMPLERS
from lib.streams import base


class EncoderSettings(Section):
    """The streams and steps that an encoder reads.

    kind: kind of encoder. reads: references to streams (`faces`) or to arrays of streams (`audio.mfcc`). Steps are
    selected in the first stream; the other streams contribute the steps nearest in time. take, steps: name and argument
    of the sampler (lib/data/samplers.py).
    """

    kind: str
    reads: list[str]
    take: Literal[*SAMPLERS]  # type: ignore[valid-type]
    steps: Annotated[int, Field(ge=1, le=100_000)]

    def fill_from_clips(self, lengths: Callable[[], Sequence[int]]) -> Self:
        """Return the settings, with values that depend on the training clips set from their numbers of steps (`lengths`)."""
        return self

    def files(self) -> list[Path]:
        """Return files that the encoder loads before training, besides those of the keys `weights` and `landmark_weights`.

        Their contents enter the fingerprint of training.
        """
        return []

    @property
    def is_random(self) -> bool:
        """Return whether the steps of a training clip differ from epoch to epoch."""
        return SAMPLERS[self.take].random

    def view(self, values: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Return the encoder's input for a clip's steps (T, ...). `rng` is the random generator in training, else None."""
        return values


def find_kind(reference: str) -> base.Kind:
    """Return the kind of the steps of a reference to a stream. Raises InputError for an unknown stream or array."""
    stream, array = split_reference(reference)
    return base.load(stream).kind_of(array)


def find_vectors(reference: str) -> base.Vectors:
    """Return what the vectors of a reference to a stream are: frequency bands, words or other numbers."""
    return base.load(split_reference(reference)[0]).vectors


def split_reference(reference: str) -> tuple[str, str]:
    """Return the names of the stream and of the array of a reference such as `faces` or `audio.mfcc`.

    The array of `faces` is the stream's first array. Raises InputError for an unknown stream or array.
    """
    name, _, array = reference.partition(".")
    arrays = base.load(name).arrays
    if array and array not in arrays:
        raise InputError(f"stream {name} has no array {array!r}; allowed: {', '.join(arrays) or f'{name} alone'}")
    return name, array or (arrays[0] if arrays else "")


def list_streams(settings_by_encoder: Mapping[str, EncoderSettings]) -> list[str]:
    """Return the names of the streams that the encoders read, each once."""
    return list(
        dict.fromkeys(
            split_reference(reference)[0]
            for encoder_settings in settings_by_encoder.values()
            for reference in encoder_settings.reads
        )
    )
