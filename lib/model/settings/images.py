"""The settings of a 2D network over single pictures."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lib.data.crops import scale_and_crop
from lib.data.inputs import EncoderSettings

PARTS = 5
"""Largest number of parts of a backbone that can be frozen separately: the stem and four stages."""


class Settings(EncoderSettings):
    """shorter_side, crop: pixels; backbone, weights, filters, place, time, units: as params.yaml says; frozen: how many of
    the five parts stay as loaded."""

    kind: Literal["images"]
    shorter_side: Annotated[int, Field(ge=16, le=8192)] | None
    crop: Annotated[int, Field(ge=16, le=8192)] | None
    backbone: str
    filters: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=1)]], Field(min_length=1)
    ]
    weights: str | None
    frozen: Annotated[int, Field(ge=0, le=PARTS)]
    place: Literal["keep", "mean", "max"]
    time: Literal["keep", "max", "gru", "lstm"]
    units: Annotated[int, Field(ge=1, le=65_536)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.time != "keep" and self.place == "keep":
            raise ValueError(f"time = {self.time} with place = keep; allowed: with place = mean or max")
        if self.crop is not None and self.shorter_side is not None and self.crop > self.shorter_side:
            raise ValueError(f"crop = {self.crop}; allowed: up to shorter_side = {self.shorter_side}")
        return self

    @property
    def is_random(self) -> bool:
        """Return whether the steps or crops of a training clip differ from epoch to epoch."""
        return super().is_random or self.crop is not None

    def view(self, values: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Return images (`lib.data.crops.scale_and_crop`)."""
        return scale_and_crop(values, self.shorter_side, self.crop, rng, ", ".join(self.reads))
