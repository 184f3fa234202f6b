"""Registries: a folder whose modules are the members, each found by its name."""

from collections.abc import Collection
from pathlib import Path


def list_members(folder: Path, others: Collection[str] = ()) -> list[str]:
    """Return the sorted names of the modules and packages of a folder.

    A name that begins with "_" is a helper and is left out. others: further modules to leave out, which serve the complete
    package.
    """
    names = [path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return sorted(name for name in names if not name.startswith("_") and name not in others)
