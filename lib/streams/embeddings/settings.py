"""The settings of streams of embeddings."""

from typing import Annotated, Literal

from pydantic import Field

from lib.core.pretrained import PretrainedSettings
from lib.streams.base import StreamSettings

Se = Literal["none", "identity", "reference"]

SIZES = {
    "emonext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "emonext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "emonext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "emonext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "emonext_xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
"""Blocks and channels of the four stages (Liu et al. 2022, ConvNeXt)."""


class Settings(StreamSettings, PretrainedSettings):
    """source: the stream of images. steps: maximum number of images per clip. side: in pixels. params.yaml explains all
    keys."""

    source: Literal["faces", "frames", "pictures"]
    steps: Annotated[int, Field(ge=1, le=4096)]
    side: Annotated[int, Field(ge=32, le=1024)]
    weights: str | None
    colour: Literal["rgb", "bgr"]
    stn: bool
    se: Se
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
