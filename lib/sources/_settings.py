"""Settings of the stage `download` that all sources share."""

from typing import Annotated, Literal

from pydantic import Field

from lib.core.parameters import Section
from lib.sources import _split

MAX_SECONDS = 24 * 3600


class Url(Section):
    url: str
    sha256: str | None


class Group(Section):
    """A group of persons: a column of data/groups.csv and one of its values."""

    column: str
    value: str


class Download(Section):
    """The settings that all sources share. `Complete` adds a section for each source."""

    sources: Annotated[list[str], Field(min_length=1)]
    videos: bool
    held_out: list[str] = Field(default_factory=list)
    scale: Literal["original", "unit"] = "original"
    split: Literal[*_split.SPLITTERS]  # type: ignore[valid-type]
    group: Group
    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    split_fractions: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=3, max_length=3)] | None
    folds: Annotated[int, Field(ge=3, le=1000)]
    fold: Annotated[int, Field(ge=0, le=999)]
    inner_folds: Annotated[int, Field(ge=0, le=1000)]
    inner_fold: Annotated[int, Field(ge=0, le=999)]
    allow_missing: Annotated[float, Field(ge=0, le=1)]
    min_seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)]
    min_frames: Annotated[int, Field(ge=2, le=10_000_000)]
    max_seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)]
    max_damaged: Annotated[float, Field(ge=0, le=1)]
    urls: dict[str, Url]
    folders: list[str] = Field(default_factory=list)
