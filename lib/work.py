"""Work folders: what an interrupted or changed stage keeps, so that the next run redoes only what it must."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path("data/.work")
"""A folder a stage; removing any of it costs time and nothing else."""


def fingerprint(stage: str, *inputs: Any) -> str:
    """Return 16 hex digits of the stage's code (its .py dependencies in dvc.yaml) and `inputs` (JSON-able)."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    dependencies = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][stage]["deps"]
    for path in sorted(name for name in dependencies if name.endswith(".py")):
        digest.update(path.encode() + Path(path).read_bytes())
    return digest.hexdigest()[:16]


def sha256(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep(partial: Path, path: Path) -> None:
    """Give a file that is whole its own name, so that not even a power cut leaves half a file under that name."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def publish(files: Iterable[tuple[Path, Path]], out: Path) -> None:
    """Make the folder `out` of (file in a work folder, its path below `out`), at once and without copying."""
    partial = ROOT / f"{out.name}.partial"
    for folder in (partial, out):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    for file, place in files:
        (partial / place).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, partial / place)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, partial / place)
    partial.rename(out)
