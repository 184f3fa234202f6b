"""The settings of an encoder of streams of vectors."""

from typing import Annotated, Literal

from pydantic import Field

from lib.data.inputs import EncoderSettings


class Settings(EncoderSettings):
    """net, width, depth, dropout, heads, feed_forward: the network over tokens; pool: consecutive steps that are averaged to
    a token; winsorise: the fraction of training values at each end of a number that limits it, 0 for none; mask: whether
    the network also reads which numbers are missing."""

    kind: Literal["vectors"]
    net: Literal["linear", "mlp", "transformer"]
    width: Annotated[int, Field(ge=6, le=4096)]
    depth: Annotated[int, Field(ge=1, le=64)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    pool: Annotated[int, Field(ge=1, le=100_000)]
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    feed_forward: Annotated[int, Field(ge=1, le=64)] = 2
    winsorise: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    mask: bool = False
