"""The settings of S2D."""

from typing import Annotated, Literal

from pydantic import Field

from lib.data.inputs import EncoderSettings

Prompts = Literal["deep", "shallow", "none"]
Norms = Literal["own", "shared"]
Init = Literal["zero", "reference"]
Positive = Annotated[int, Field(ge=1, le=65_536)]


class Settings(EncoderSettings):
    """frames: the T of a window; all else as params.yaml says."""

    kind: Literal["s2d"]
    frames: Positive
    short: Literal["mask", "repeat"]
    weights: str | None
    frozen: bool
    patch: Positive
    width: Positive
    depth: Positive
    heads: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    prompts: Prompts
    prompt_width: Positive
    norms: Norms
    init: Init
    tma: bool
    temporal_embedding: bool
    adapter_ratio: Annotated[float, Field(gt=0, le=16)]
    adapter_heads: Positive
    landmarks: Literal["mobilefacenet", "points", "drawing", "none"]
    landmark_weights: str | None
    landmark_input: Literal["bgr", "imagenet"]
    checkpointing: bool
    feed_forward: Annotated[int, Field(ge=1, le=64)] = 4
    standardise: Literal["imagenet", "half"] = "imagenet"
