"""The source `demo`: a small corpus that the project makes itself, with planted labels, in FIV2's layout."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from lib.core import resume
from lib.core.clips import read_csv
from lib.core.parameters import Section
from lib.sources import fiv2, mosei
from lib.sources.archives import ANNOTATIONS
from lib.sources.fiv2 import GROUPS, problem

__all__ = ["ARCHIVES", "CHECKSUMS", "GROUPS", "Settings", "bring", "columns", "problem", "rows"]

ARCHIVES = False

CHECKSUMS: Mapping[str, str] = {}

INTENSITIES = "emotions.csv"
"""Among the annotations: the intensities, 0 to 3, of the clips whose emotions are known."""


class Settings(Section):
    """The section download.demo."""

    clips: Annotated[int, Field(ge=20, le=100_000)]
    seconds: Annotated[float, Field(ge=2, le=600)]
    shared: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    emotions: Annotated[float, Field(ge=0, le=1)]


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Make the demo's archives, if they are not there, and unpack them as FIV2's are."""
    from lib.sources.demo import corpus  # only who makes a demo waits for the renderer

    made = resume.ROOT / f"demo-{resume.fingerprint(['lib.sources.demo.corpus'], settings.model_dump())}"
    if not made.exists():
        corpus.write(made, **settings.model_dump(), intensities=INTENSITIES)
    yield from fiv2.unpack(made, folder, [corpus.KEY_A, corpus.KEY_B], videos)


def columns(settings: Settings) -> tuple[str, ...]:
    """Return the names of the targets: FIV2's, with download.demo.emotions also CMU-MOSEI's."""
    return (*fiv2.columns(settings), *(mosei.columns(settings) if settings.emotions else ()))


def rows(settings: Settings, folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Return the clips as FIV2's are; with download.demo.emotions also the targets of CMU-MOSEI, where they are known."""
    table = fiv2.rows(settings, folder, files)
    if not settings.emotions:
        return table
    known = read_csv(folder / ANNOTATIONS / INTENSITIES, ["clip"]).set_index("clip")
    targets = pd.DataFrame({clip: mosei.targets(of_clip) for clip, of_clip in known.to_dict("index").items()}).T
    return table.join(targets, on="clip")
