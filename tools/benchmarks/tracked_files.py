"""Measure time and peak memory of DVC's commands on a folder of many small files, with this project's settings of DVC.

One stage reads the folder, another writes a copy of it. The commands run in a temporary folder.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lib.core import command
from lib.core.artifacts import RAW
from lib.core.errors import InputError
from tools.benchmarks.corpus import ROOT, Cost, run_module

PIPELINE = f"""stages:
  read:
    cmd: touch read.txt
    deps: [{RAW}]
    outs: [read.txt]
  write:
    cmd: cp -r {RAW} data/copy
    deps: [{RAW}]
    outs: [data/copy]
"""
COMMANDS = {
    "dvc add": "add",
    "dvc status, nothing changed": "status",
    "dvc repro, a stage that reads the folder": "repro read",
    "dvc repro, nothing changed": "repro read -q",
    "dvc repro, a stage that writes such a folder": "repro write",
    "dvc status, both stages": "status -q",
}
"""The options of each command, in the order in which they run."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.tracked_files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--files", nargs="+", type=int, default=[1000, 20_000], help="numbers of files of 1 kB (1000 20000)"
    )
    parser.add_argument("--folder", type=Path, help="where temporary folders are made; a file needs up to 8 kB")
    arguments = parser.parse_args()
    if wrong := [files for files in arguments.files if files < 1]:
        raise InputError(f"--files {wrong[0]}; allowed: 1 or more")
    print("| command | files | wall s | CPU s | peak MiB |\n|---|---|---|---|---|")
    for files in arguments.files:
        for name, cost in measure_commands(arguments.folder, files):
            print(f"| {name} | {files} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.peak:.0f} |", flush=True)


def measure_commands(parent: Path | None, files: int) -> Iterator[tuple[str, Cost]]:
    """Yield the name and the cost of each command on a folder of `files` files, in a temporary folder below `parent`."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        (folder / RAW).mkdir(parents=True)
        for number in range(files):  # DVC stores equal files once
            (folder / RAW / f"{number:07d}.bin").write_bytes(number.to_bytes(8, "big") * 128)
        (folder / "dvc.yaml").write_text(PIPELINE)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        run_module(folder, "dvc", "init", "-q")
        shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
        for label, options in COMMANDS.items():
            extra = [str(RAW)] if options == "add" else []
            yield label, run_module(folder, "dvc", *options.split(), *extra)


if __name__ == "__main__":
    command.run(main)
