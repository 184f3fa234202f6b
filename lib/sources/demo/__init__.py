"""The source `demo`: a small corpus that the project makes itself, with planted labels, in FIV2's layout."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lib.core import resume
from lib.core.parameters import Section
from lib.sources import fiv2
from lib.sources.fiv2 import GROUPS, problem, rows

__all__ = ["ARCHIVES", "CHECKSUMS", "GROUPS", "Settings", "bring", "problem", "rows"]

ARCHIVES = False

CHECKSUMS: Mapping[str, str] = {}


class Settings(Section):
    """The section download.demo."""

    clips: Annotated[int, Field(ge=20, le=100_000)]
    seconds: Annotated[float, Field(ge=2, le=600)]
    shared: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Make the demo's archives, if they are not there, and unpack them as FIV2's are."""
    from lib.sources.demo import corpus  # only who makes a demo waits for the renderer

    made = resume.ROOT / f"demo-{resume.fingerprint(['lib.sources.demo.corpus'], settings.model_dump())}"
    if not made.exists():
        corpus.write(made, **settings.model_dump())
    yield from fiv2.unpack(made, folder, [corpus.KEY_A, corpus.KEY_B], videos)
