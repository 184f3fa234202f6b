"""Match the names of clips and files in a user's tables with the clips of a corpus."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from lib.core.clips import VIDEO_SUFFIXES
from lib.sources._archives import normalise_name


def split_path(value: str) -> tuple[str, ...]:
    """Return the non-empty parts of a path written on Windows, Mac OS or Linux."""
    return tuple(part for part in value.replace("\\", "/").split("/") if part not in ("", "."))


def is_absolute(value: str) -> bool:
    """Return whether a path begins at the root, the home folder or a drive (of any operating system)."""
    return value.startswith(("/", "\\", "~")) or value[1:3] in (":\\", ":/")


class ClipNames:
    """Looks up clip names, with or without a video's suffix and with or without folders."""

    def __init__(self, clips: Iterable[str]) -> None:
        self._clips = set(clips)
        self._by_name: dict[str, set[str]] = {}
        for clip in self._clips:
            for name in {normalise_name(clip), _stem(clip)}:
                self._by_name.setdefault(name, set()).add(clip)

    def find(self, value: str) -> str | None:
        """Return the clip that `value` names, or None unless exactly one clip matches.

        A path matches a clip whose name is the path's parts, or its last parts, joined by _.
        """
        if value in self._clips:
            return value
        parts = split_path(value)
        for start in range(len(parts)):
            name = normalise_name("_".join(parts[start:]))
            clips = self._by_name.get(name) or self._by_name.get(_stem(name)) or set()
            if len(clips) == 1:
                return next(iter(clips))
        return None


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix.lower() in VIDEO_SUFFIXES else name


def suggest_name(value: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown value: the name that was probably meant, or an empty string.

    That name differs from the value only in case, or begins with it.
    """
    for name in names if value else ():
        if name.lower() == value.lower():
            return f"; {name!r} differs only in case"
        if name.startswith(value):
            return f"; write {name}"
    return ""


def show_three(names: Sequence[str]) -> str:
    """Return the first three of several names for a message."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
