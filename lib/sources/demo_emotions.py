"""The source `demo_emotions`: a small rendered corpus with planted emotions, in the layout of CMU-MOSEI."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lib.core import resume
from lib.core.clips import read_csv
from lib.core.parameters import Section
from lib.core.targets import TRAITS
from lib.sources import mosei
from lib.sources._archives import ANNOTATIONS
from lib.sources.base import Ranges
from lib.sources.mosei import GROUPS, problem

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

__all__ = ["ARCHIVES", "CHECKSUMS", "GROUPS", "Settings", "bring", "columns", "problem", "rows"]

ARCHIVES = False

CHECKSUMS: Mapping[str, str] = {}

LABELS, TRAIT_LABELS = "labels.csv", "traits.csv"
"""Annotation files: CMU-MOSEI's table, and the traits of the segments that have trait labels."""


class Settings(Section):
    """The section download.demo_emotions."""

    clips: Annotated[int, Field(ge=20, le=100_000)]
    seconds: Annotated[float, Field(ge=2, le=600)]
    both: Annotated[int, Field(ge=0, le=100_000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Render the corpus unless an earlier run did, and bring it in like CMU-MOSEI."""
    from lib.sources.demo import segmented_videos  # a slow import that other sources do not need

    rendered = (
        resume.ROOT
        / f"demo_emotions-{resume.fingerprint(['lib.sources.demo.segmented_videos'], settings.model_dump())}"
    )
    if not rendered.exists():
        segmented_videos.write_videos(
            rendered, settings.clips, settings.seconds, settings.seed, settings.both, tables=(LABELS, TRAIT_LABELS)
        )
    yield from mosei.bring(mosei.Settings(labels=LABELS), rendered, folder, videos)


def columns(settings: Settings) -> Ranges:
    """Return the targets with their ranges: CMU-MOSEI's and the traits."""
    return {**mosei.columns(settings), **dict.fromkeys(TRAITS, (0.0, 1.0))}


def rows(settings: Settings, folder: Path, files: Sequence[Path]) -> "pd.DataFrame":
    """Return the segments as for CMU-MOSEI, with the traits of the segments that have trait labels (NaN elsewhere)."""
    traits = read_csv(folder / ANNOTATIONS / TRAIT_LABELS, ["clip"]).set_index("clip")
    return mosei.rows(mosei.Settings(labels=LABELS), folder, files).join(traits, on="clip")
