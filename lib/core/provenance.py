"""Describe the code and the packages that a file was made with."""

import importlib.metadata
import subprocess
from typing import Any

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning-fabric",
    "numpy",
    "h5py",
    "av",
    "opencv-contrib-python",
    "facenet-pytorch",
)
_OWN = ("--", ":/", ":!/dvc.lock", ":!/metrics")
"""Arguments of git for all files except those that a run writes."""


def describe_code() -> dict[str, Any]:
    """Return the commit of the project's code with its date, None without git, and the versions of the packages."""
    return {
        "commit": find_commit(),
        "commit_date": _git("log", "-1", "--format=%cI"),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES if _is_installed(name)},
    }


def find_commit() -> str | None:
    """Return the commit of the project's code; None without git.

    A + follows it if files have changed that neither DVC nor a stage writes.
    """
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no", *_OWN)
    return None if commit is None else commit + ("+" if changed else "")


def _git(*command: str) -> str | None:
    """Return the output of a git command; None without git."""
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
