"""The interface of a source of clips, and the registry of all sources: the modules of this folder."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from lib.core.errors import SettingError
from lib.core.parameters import Section
from lib.core.registry import list_members

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

_CONTRACT = ("base", "download", "listing", "settings")
"""Modules of this folder that other packages use and that are not sources."""


Ranges = Mapping[str, tuple[float, float]]
"""The lowest and the highest value that each target column can have, in the corpus' units."""


class Source(Protocol):
    """A module or package of this folder. Its section of params.yaml is download.NAME, its files go to data/raw/NAME."""

    Settings: type[Section]
    ARCHIVES: bool
    """Whether the source reads data/archives/."""
    CHECKSUMS: Mapping[str, str]
    """sha256 of the annotation files as their authors distribute them, by file name."""
    GROUPS: Mapping[str, Mapping[str, Mapping[str, str]]]
    """Groups of persons: file pattern -> column -> code -> meaning."""

    @staticmethod
    def bring(settings: Any, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
        """Copy or unpack the source's files to SUBFOLDER/... and annotations/NAME below `folder`, and yield their paths.

        Clips are included only if `videos` is True.
        """

    @staticmethod
    def columns(settings: Any) -> Ranges:
        """Return the target columns that `rows` returns with these settings, with their ranges."""

    @staticmethod
    def rows(settings: Any, folder: Path, files: Sequence[Path]) -> "pd.DataFrame":
        """Return a table of the annotated clips: clip, video, split ('' if unassigned), shard, file and the targets.

        `file` is an element of `files` (paths below `folder`), or '' if the clip's file is missing. Targets are floats, NaN
        where unknown.
        """

    @staticmethod
    def problem(row: Mapping[str, Any]) -> str:
        """Return the reason to reject a clip because of its name or targets, as KIND: TEXT, or an empty string."""


def list_names() -> list[str]:
    """Return the names of all sources: the modules of this folder, except helpers, whose names begin with "_"."""
    return list_members(Path(__file__).parent, _CONTRACT)


def load(name: str) -> Source:
    """Import a source by name. Raises InputError with the choices if the name is unknown."""
    if name not in list_names():
        raise SettingError(f"download.sources has {name!r}; allowed: {', '.join(list_names())}")
    return cast(Source, importlib.import_module(f"lib.sources.{name}"))
