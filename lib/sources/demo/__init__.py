"""The source `demo`: a small rendered corpus with planted labels, in the layout of FIV2."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from lib.core import resume
from lib.core.clips import read_csv
from lib.core.parameters import Section
from lib.sources import fiv2, mosei
from lib.sources._archives import ANNOTATIONS
from lib.sources.fiv2 import GROUPS, problem

__all__ = ["ARCHIVES", "CHECKSUMS", "GROUPS", "Settings", "bring", "columns", "problem", "rows"]

ARCHIVES = False

CHECKSUMS: Mapping[str, str] = {}

INTENSITIES = "emotions.csv"
"""Annotation file with the intensities (0 to 3) of the clips that have emotion labels."""


class Settings(Section):
    """The section download.demo."""

    clips: Annotated[int, Field(ge=20, le=100_000)]
    seconds: Annotated[float, Field(ge=2, le=600)]
    shared: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    emotions: Annotated[float, Field(ge=0, le=1)]


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Render the demo's archives unless an earlier run did, and unpack them like FIV2's."""
    from lib.sources.demo import corpus  # a slow import that other sources do not need

    rendered = resume.ROOT / f"demo-{resume.fingerprint(['lib.sources.demo.corpus'], settings.model_dump())}"
    if not rendered.exists():
        corpus.write(rendered, **settings.model_dump(), intensities=INTENSITIES)
    yield from fiv2.unpack(rendered, folder, [corpus.KEY_A, corpus.KEY_B], videos)


def columns(settings: Settings) -> tuple[str, ...]:
    """Return the names of the targets: FIV2's, and CMU-MOSEI's if download.demo.emotions is above 0."""
    return (*fiv2.columns(settings), *(mosei.columns(settings) if settings.emotions else ()))


def rows(settings: Settings, folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Return the clips as for FIV2. If download.demo.emotions is above 0, add CMU-MOSEI's targets (NaN if unlabelled)."""
    table = fiv2.rows(settings, folder, files)
    if not settings.emotions:
        return table
    intensities = read_csv(folder / ANNOTATIONS / INTENSITIES, ["clip"]).set_index("clip")
    targets = pd.DataFrame({clip: mosei.targets(emotions) for clip, emotions in intensities.to_dict("index").items()}).T
    return table.join(targets, on="clip")
