"""The settings of sources: the section `download` of params.yaml, and its checks with other sections."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from lib.core.errors import SettingError
from lib.core.parameters import Section
from lib.sources import _across, _split, base
from lib.sources._matching import suggest_name

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


def _section(settings: type[Section]) -> tuple[type[Section], Any]:
    """Return a source's pydantic field. The section is optional for a source without settings."""
    return settings, (... if settings.model_fields else settings())


_SECTIONS: dict[str, Any] = {name: _section(base.load(name).Settings) for name in base.list_names()}
Complete = create_model("Complete", __base__=Download, **_SECTIONS)


class Parameters(Section):
    download: Complete  # type: ignore[valid-type]


def check_targets(parameters: Mapping[str, Any], settings: Download) -> None:
    """Check that each column of model.targets comes from a source of `settings`, with the range that the user's table has.

    parameters: the complete params.yaml. Raises InputError for the first column that does not. Unknown target groups are
    reported by the check of `targets`.
    """
    _across.check_held_out(settings)
    columns = [column for ranges in _across.find_ranges(settings).values() for column in ranges]
    for name in parameters["model"]["targets"]:
        wanted = parameters["targets"].get(name, {}).get("columns", [])
        if missing := [column for column in wanted if column not in columns]:
            raise SettingError(
                f"targets.{name}.columns has {missing[0]!r}, which no source of download.sources ="
                f" {settings.sources} has; allowed: {', '.join(dict.fromkeys(columns))}"
                f"{suggest_name(missing[0], columns)}; correct the columns, or remove {name} from model.targets"
            )
    _across.check_ranges(parameters, settings)


def find_scored(parameters: Mapping[str, Any], settings: Download) -> dict[str, list[str]]:
    """Return the predicted columns of each corpus of evaluate.on. Raises SettingError for a corpus without any."""
    return _across.find_scored(parameters, settings)


def find_fairness_group(parameters: Mapping[str, Any]) -> str | None:
    """Return train.fairness_group, None if train.fairness is none; `parameters` is the complete params.yaml."""
    train = parameters.get("train", {})  # the stage train checks it
    return None if train.get("fairness", "none") == "none" else train.get("fairness_group")
