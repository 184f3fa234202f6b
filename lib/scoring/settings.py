"""The settings of scores: the section `evaluate` of params.yaml."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lib.core.parameters import Section

if TYPE_CHECKING:  # settings are checked without pandas
    from lib.scoring.bootstrap import Bootstrap

Align = Literal["range", "rank"]
RANGE: Align = "range"
RANK: Align = "rank"


class Scoring(Section, extra="ignore"):
    """The keys of the section `evaluate` that both stages, evaluate and analyse, use."""

    split: Literal["test", "validation"]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]

    @property
    def bootstrap(self) -> "Bootstrap":
        """Return the random draws of all intervals and tests."""
        from lib.scoring.bootstrap import Bootstrap

        return Bootstrap(self.resamples, self.seed)


class Settings(Scoring, extra="forbid"):
    """The section `evaluate` of params.yaml."""

    trees: bool
    weighting: Literal["none", "reliability"] = "none"
    on: list[str] = Field(default_factory=list)
    align: Align = RANGE
