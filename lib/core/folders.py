"""One set of rules for walking folders of clips."""

from collections.abc import Iterator
from pathlib import Path


def walk_files(folder: Path, parents: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield all files below a folder, sorted by folder, and links to nothing.

    Links to folders are followed, except to a folder that contains the link. Names that begin with a dot are left out.
    """
    parents = (*parents, folder.resolve())
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        elif path.resolve() not in parents:
            yield from walk_files(path, parents)


def describe_bytes(size: float) -> str:
    """Return a size as text, in GB or MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.1f} MB"
