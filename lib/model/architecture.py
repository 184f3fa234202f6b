"""The descriptions of a pretrained network, which a model's file contains."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.core.errors import InputError

CONFIGURATION = "config.json"
_DESCRIPTIONS = (CONFIGURATION, "preprocessor_config.json", "processor_config.json")
"""Files of a network's folder that describe the network and its input."""

Architecture = dict[str, dict[str, Any]]
"""The contents of a folder's descriptions by file name."""


def read_architecture(folder: Path) -> Architecture:
    """Return the contents of the files that describe a network and its input. Raises InputError if one can't be read."""
    architecture = {}
    for path in (folder / name for name in _DESCRIPTIONS if (folder / name).is_file()):
        try:
            architecture[path.name] = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(
                f"network = {str(folder)!r}: {path} is not valid JSON ({error}); get the file again"
            ) from None
    return architecture


@contextmanager
def write_architecture(architecture: Architecture) -> Iterator[Path]:
    """Give a temporary folder with the files that describe a network."""
    with tempfile.TemporaryDirectory() as name:
        for file, contents in architecture.items():
            Path(name, file).write_text(json.dumps(contents))
        yield Path(name)
