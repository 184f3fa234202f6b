"""The settings of a 3D CNN over optical flow or images."""

from typing import Annotated, Literal

from pydantic import Field

from lib.data.inputs import EncoderSettings

PARTS = 5
"""Largest number of parts of a video ResNet that can be frozen: the stem and four stages."""


class Settings(EncoderSettings):
    """backbone, weights: as params.yaml says. frozen: number of parts of a video ResNet that are not trained."""

    kind: Literal["volumes"]
    backbone: str
    weights: str | None
    frozen: Annotated[int, Field(ge=0, le=PARTS)] = 0
