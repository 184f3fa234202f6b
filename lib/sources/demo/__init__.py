"""The source `demo`: a small rendered corpus with planted labels, in the layout of FIV2."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from lib.core import resume
from lib.core.clips import read_csv
from lib.core.parameters import Section
from lib.sources import fiv2, mosei
from lib.sources._archives import ANNOTATIONS
from lib.sources.base import Ranges
from lib.sources.demo.targets import EMOTION_TABLE, PLANTED, PLANTED_TABLE
from lib.sources.fiv2 import GROUPS, problem

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

__all__ = ["ARCHIVES", "CHECKSUMS", "GROUPS", "Settings", "bring", "columns", "problem", "rows"]

ARCHIVES = False

CHECKSUMS: Mapping[str, str] = {}


class Settings(Section):
    """The section download.demo."""

    clips: Annotated[int, Field(ge=20, le=100_000)]
    seconds: Annotated[float, Field(ge=2, le=600)]
    shared: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    emotions: Annotated[float, Field(ge=0, le=1)]
    cues: bool = False
    planted: list[Literal["nods", "speaking", "together"]] = Field(default_factory=list)

    @field_validator("planted")
    @classmethod
    def _once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError(f"planted = {names}; allowed: each name once")
        return names


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Render the demo's archives unless an earlier run did, and unpack them like FIV2's. With `cues`, add cues.csv."""
    from lib.sources.demo import corpus, cues  # a slow import that other sources do not need

    rendered = rendered_folder(settings)
    if not rendered.exists():
        corpus.write(rendered, **rendering_values(settings))
    files = list(fiv2.unpack(rendered, folder, [corpus.KEY_A, corpus.KEY_B], videos))
    yield from files
    if settings.cues:
        path = Path(ANNOTATIONS, cues.FILE)
        cues.write_cues(folder / path, (file.name for file in files if file.suffix == ".mp4"))
        yield path


def rendering_values(settings: Settings) -> dict[str, Any]:
    """Return the settings that the rendered archives depend on, by argument of `corpus.write`."""
    return settings.model_dump(exclude={"cues"})


def rendered_folder(settings: Settings) -> Path:
    """Return the folder of the rendered archives, whose name depends on the settings and the code."""
    return resume.ROOT / f"demo-{resume.fingerprint(['lib.sources.demo.corpus'], rendering_values(settings))}"


def columns(settings: Settings) -> Ranges:
    """Return the targets and ranges: FIV2's, CMU-MOSEI's if download.demo.emotions is above 0, and the planted ones."""
    emotions = mosei.list_emotion_columns() if settings.emotions else {}
    return {**fiv2.columns(settings), **emotions, **{PLANTED[name]: (0.0, 1.0) for name in settings.planted}}


def rows(settings: Settings, folder: Path, files: Sequence[Path]) -> "pd.DataFrame":
    """Return the clips as for FIV2, with the other targets of `columns`. CMU-MOSEI's are NaN for unlabelled clips."""
    import pandas as pd

    table = fiv2.rows(settings, folder, files)
    if settings.emotions:
        intensities = read_csv(folder / ANNOTATIONS / EMOTION_TABLE, ["clip"]).set_index("clip")
        emotions = intensities.to_dict("index").items()
        table = table.join(pd.DataFrame({clip: mosei.targets(values) for clip, values in emotions}).T, on="clip")
    if settings.planted:
        planted = read_csv(folder / ANNOTATIONS / PLANTED_TABLE, ["clip"]).set_index("clip")
        table = table.join(planted[[PLANTED[name] for name in settings.planted]], on="clip")
    return table
