"""What a source of clips is, and finding one by its name: the modules of this folder that bring clips are the choices."""

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd

from lib.core.errors import InputError
from lib.core.parameters import Section


class Source(Protocol):
    """A module or package of this folder; its section of params.yaml is download.NAME, its files come to data/raw/NAME."""

    Settings: type[Section]
    ARCHIVES: bool
    """Whether it reads data/archives/."""
    CHECKSUMS: Mapping[str, str]
    """sha256 of annotation files, by name, as they are distributed."""
    GROUPS: Mapping[str, Mapping[str, Mapping[str, str]]]
    """Patterns of its own files of groups of persons, and what the codes in their columns mean."""

    @staticmethod
    def bring(settings: Any, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
        """Put its files, clips only if `videos`, below `folder` as SUBFOLDER/... and annotations/NAME; yield where."""

    @staticmethod
    def columns(settings: Any) -> Collection[str]:
        """Return the names of the targets that `rows` can have with these settings."""

    @staticmethod
    def rows(settings: Any, folder: Path, files: Sequence[Path]) -> pd.DataFrame:
        """Return the annotated clips: clip, video, split ('' if it has none), shard, file (one of `files`, which lie below
        `folder`, or '' if there is none), and its targets as floats, NaN where unknown.
        """

    @staticmethod
    def problem(row: Mapping[str, Any]) -> str:
        """Say what is wrong with a clip's name or targets, as KIND: TEXT, or return an empty string."""


def names() -> list[str]:
    """Return the names of all sources."""
    found = []
    for path in Path(__file__).parent.iterdir():
        module = path / "__init__.py" if path.is_dir() else path
        if module.suffix == ".py" and module.exists() and "\ndef bring(" in module.read_text():
            found.append(path.stem)
    return sorted(found)


def load(name: str) -> Source:
    """Import a source. Raises InputError with the choices if there is none of that name."""
    if name not in names():
        raise InputError(f"params.yaml: download.sources has {name!r}; allowed: {', '.join(names())}")
    return cast(Source, importlib.import_module(f"lib.sources.{name}"))
