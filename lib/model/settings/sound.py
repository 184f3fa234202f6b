"""The settings of networks over a clip's MFCC or log-mel spectrogram."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from lib.data.inputs import EncoderSettings

Standardise = Literal["none", "clip", "coefficient", "training"]


class Sizes(NamedTuple):
    """Sizes and standardisation of a network."""

    filters: Sequence[int]
    units: int
    standardise: Standardise


PUBLISHED = {
    "blstm": Sizes([], 64, "coefficient"),
    "conv1d_lstm": Sizes([32, 32, 64], 64, "coefficient"),
    "conv2d": Sizes([32, 32], 64, "coefficient"),
    "mlp": Sizes([], 128, "training"),
}
"""The sizes of the audio-visual course's networks, for settings that are null. The units of mlp are not published."""


class Settings(EncoderSettings):
    """net, standardise, pool, length, filters, norm, units, width, dropout, tokens: as params.yaml says. filters,
    units and standardise are those of PUBLISHED if they are null."""

    kind: Literal["sound"]
    net: Literal["blstm", "conv1d_lstm", "conv2d", "mlp"]
    standardise: Standardise | None
    pool: Annotated[int, Field(ge=1, le=100_000)]
    length: Annotated[int, Field(ge=10, le=1_000_000)] | None
    filters: list[Annotated[int, Field(ge=1, le=65_536)]] | None
    norm: Literal["before", "after"]
    units: Annotated[int, Field(ge=1, le=65_536)] | None
    width: Annotated[int, Field(ge=1, le=65_536)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    tokens: Literal["clip", "steps"]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted = len(PUBLISHED[self.net].filters)
        if wanted and len(self.sizes.filters) != wanted:
            raise ValueError(f"filters = {self.filters} with net = {self.net}; allowed: {wanted} numbers, or null")
        if self.net == "mlp" and self.standardise == "coefficient":
            raise ValueError(
                "standardise = coefficient with net = mlp, which reads means (all would be 0); allowed: none, clip,"
                " training, null"
            )
        if self.net in ("conv2d", "mlp") and self.tokens == "steps":
            raise ValueError(f"tokens = steps with net = {self.net}; allowed: with blstm or conv1d_lstm")
        return self

    @property
    def sizes(self) -> Sizes:
        """The sizes that are set, and the published ones of the network for those that are null."""
        published = PUBLISHED[self.net]
        return Sizes(
            published.filters if self.filters is None else self.filters,
            self.units or published.units,
            self.standardise or published.standardise,
        )

    def fill_from_clips(self, lengths: Callable[[], Sequence[int]]) -> Self:
        """Take conv2d's length, where it is left open, to be the training clips' mean, in pooled steps."""
        if self.net != "conv2d" or self.length is not None:
            return self
        steps = [count for count in lengths() if count]
        return self.model_copy(update={"length": max(10, round(sum(steps) / max(len(steps), 1) / self.pool))})
