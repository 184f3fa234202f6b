"""The settings of EmoNeXt over single pictures."""

from typing import Annotated, Literal

from pydantic import Field

from lib.data.inputs import EncoderSettings
from lib.streams.embeddings.settings import SIZES, Se


class Settings(EncoderSettings):
    """All as params.yaml says."""

    kind: Literal["emonext"]
    network: Literal[*SIZES]  # type: ignore[valid-type]
    weights: str | None
    stn: bool
    se: Se
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    attention_loss: Annotated[float, Field(ge=0, le=1e6)]
    reduction: Annotated[int, Field(ge=1, le=1024)] = 16
