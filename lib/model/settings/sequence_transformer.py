"""The settings of a transformer over a short sequence of vectors."""

from typing import Annotated, Literal

from pydantic import Field

from lib.data.inputs import EncoderSettings

Positive = Annotated[int, Field(ge=1, le=65_536)]


class Settings(EncoderSettings):
    """positions: the most steps that a clip may have; all else as params.yaml says."""

    kind: Literal["sequence_transformer"]
    positions: Positive
    width: Positive
    heads: Positive
    feed_forward: Positive
    depth: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    norm: Literal["before", "after"]
    mask: bool
    weights: str | None
    frozen: bool
