"""Compile the optical flow with Numba, which takes 30 s, once for all copies of the project."""

import fcntl
import functools
import shutil
from pathlib import Path

import torch

from lib.streams.flow import compiled, make
from tests.conftest import ROOT
from tools.benchmarks._flow import SOLVER

SOURCE = Path(compiled.__file__)


@functools.cache
def compile_flow() -> list[Path]:
    """Compile the flow in this folder unless Numba has cached it, one process at a time; return Numba's files."""
    with SOURCE.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make.warm_up("torch", SOLVER, torch.device("cpu"))
    return sorted((SOURCE.parent / "__pycache__").glob("compiled.*.nb[ci]"))


def share_compiled_flow(project: Path) -> None:
    """Add Numba's files to a copy of the project. Numba accepts them for a source of equal size and modification time."""
    copy = project / SOURCE.relative_to(ROOT)
    shutil.copystat(SOURCE, copy)
    (copy.parent / "__pycache__").mkdir(exist_ok=True)
    for path in compile_flow():
        shutil.copy2(path, copy.parent / "__pycache__" / path.name)
