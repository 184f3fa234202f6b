"""The settings of streams of embeddings."""

from typing import Annotated, Literal

from pydantic import Field

from lib.core.pretrained import PretrainedSettings
from lib.streams.base import StreamSettings


class Settings(StreamSettings, PretrainedSettings):
    """source: the stream of images. steps: maximum number of images per clip. side: in pixels. params.yaml explains all
    keys."""

    source: Literal["faces", "frames", "pictures"]
    steps: Annotated[int, Field(ge=1, le=4096)]
    side: Annotated[int, Field(ge=32, le=1024)]
    weights: str | None
    colour: Literal["rgb", "bgr"]
    stn: bool
    se: Literal["none", "identity", "reference"]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
