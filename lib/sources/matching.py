"""Match the names of clips and files in a user's tables with the clips of a corpus."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from lib.sources.archives import VIDEO_SUFFIXES, named


def split_path(value: str) -> tuple[str, ...]:
    """Return the parts of a path that was written on any system, without empty ones."""
    return tuple(part for part in value.replace("\\", "/").split("/") if part not in ("", "."))


def is_absolute(value: str) -> bool:
    """Return whether a path begins at the root, the home folder or a drive, as on another machine."""
    return value.startswith(("/", "\\", "~")) or value[1:3] in (":\\", ":/")


class ClipNames:
    """The names of clips, found with or without the suffix of a video, and below folders."""

    def __init__(self, clips: Iterable[str]) -> None:
        self._clips = set(clips)
        self._by_name: dict[str, set[str]] = {}
        for clip in self._clips:
            for name in {named(clip), _stem(clip)}:
                self._by_name.setdefault(name, set()).add(clip)

    def find(self, value: str) -> str | None:
        """Return the one clip that `value` names; None if there is none, or several.

        A path names the clip that is called like its parts, joined by _, or like its end.
        """
        if value in self._clips:
            return value
        parts = split_path(value)
        for start in range(len(parts)):
            name = named("_".join(parts[start:]))
            clips = self._by_name.get(name) or self._by_name.get(_stem(name)) or set()
            if len(clips) == 1:
                return next(iter(clips))
        return None


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix.lower() in VIDEO_SUFFIXES else name


def show_three(names: Sequence[str]) -> str:
    """Return the first three of several names for a message."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
