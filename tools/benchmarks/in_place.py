"""Measure disk, memory and bytes read for many clips with long sequences of vectors, read in place and copied into shards.

The features are one HDF5 file of 16-bit numbers. The stages archives, download and features run in a temporary folder. Then
one process reads all clips in random order twice, as two epochs of training do, but without a network. Before the first
pass, the system is asked to forget the files (posix_fadvise). *disk*: bytes below data/ besides the user's file. *read*:
bytes that came from the disk, and bytes of read calls, which the system can answer from memory (read_bytes and rchar of
/proc/self/io).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.core import command
from lib.core.artifacts import ARCHIVES, CLIPS, DATA
from tools.benchmarks.corpus import CHANGES, ROOT, prepare_folder, run_module

FILE = "vectors.h5"
_BATCH = 32  # clips


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.in_place",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clips", type=int, default=2000, help="number of clips (%(default)s)")
    parser.add_argument("--steps", type=int, default=750, help="vectors of each clip (%(default)s)")
    parser.add_argument("--width", type=int, default=768, help="numbers of each vector (%(default)s)")
    parser.add_argument(
        "--modes", nargs="+", default=["true", "false"], help="values of features.in_place (true false)"
    )
    parser.add_argument("--folder", type=Path, help="where temporary folders are made")
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read_twice()))
        return
    print("| in place | stage features, CPU s | disk MB | pass | from disk MB | read calls MB | CPU s | peak MiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        prepare_folder(folder)
        make_vectors(folder / ARCHIVES, arguments.clips, arguments.steps, arguments.width)
        for mode in arguments.modes:
            changes = ["features.files=[vectors.h5]", f"features.in_place={mode}"]
            run_module(folder, "tools.parameters", "table", *CHANGES, *changes)
            run_module(folder, "tools.archives")
            run_module(folder, "stages.download")
            built = run_module(folder, "stages.stream", "features")
            for row in read_in_process(folder):
                cells = [mode, f"{built.cpu:.1f}", f"{measure_disk(folder / DATA) / 1e6:.1f}", *row]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def make_vectors(folder: Path, clips: int, steps: int, width: int) -> None:
    """Write clips.parquet with labels, and a data set of 16-bit random numbers (steps, width) for each clip."""
    import h5py
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    names = [f"v{number}.000.mp4" for number in range(clips)]
    noise = rng.normal(size=(steps, width)).astype(np.float16)
    labels = rng.uniform(size=(clips, 2))
    pd.DataFrame({"clip": names, "warmth": labels[:, 0], "dominance": labels[:, 1]}).to_parquet(
        folder / "clips.parquet"
    )
    with h5py.File(folder / FILE, "w") as file:
        for number, clip in enumerate(names):
            file[clip] = np.roll(noise, number, 1)
            file[f"{clip}:times"] = np.arange(steps) / 50


def measure_disk(folder: Path) -> int:
    """Return the bytes of all files below a folder, except below data/archives/. Hard links of one file count once."""
    paths = [
        path for path in folder.rglob("*") if path.is_file() and ARCHIVES.name not in path.relative_to(folder).parts
    ]
    return sum({status.st_ino: status.st_size for status in (path.stat() for path in paths)}.values())


def read_in_process(folder: Path) -> list[list[str]]:
    """Return the cells of both passes, measured in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "tools.benchmarks.in_place", "--read"]
    output = subprocess.run(arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(output.stdout.splitlines()[-1])


def read_twice() -> list[list[str]]:
    """Read all clips twice in the current folder; return the cells of each pass."""
    import numpy as np

    from lib.core.clips import read_clip_table
    from lib.data.batch import collate
    from lib.data.dataset import ClipDataset
    from lib.data.inputs import EncoderSettings
    from lib.data.shard_cache import describe_memory
    from lib.streams import base

    for path in (*ARCHIVES.iterdir(), *(DATA / "features").iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    table = read_clip_table(CLIPS)
    inputs = {"features": EncoderSettings(kind="", reads=["features"], take="all", steps=1)}
    rows, rng = [], np.random.default_rng(0)
    clips = ClipDataset(table, DATA, inputs, base.load_stream_info(DATA, ["features"]), {})
    for number in (1, 2):
        before, cpu = _read_counters(), time.process_time()
        order = rng.permutation(len(table))
        for start in range(0, len(order), _BATCH):
            collate([clips[int(index)] for index in order[start : start + _BATCH]])
        read, calls = (after - first for after, first in zip(_read_counters(), before, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cpu = time.process_time() - cpu
        rows.append([str(number), f"{read / 1e6:.0f}", f"{calls / 1e6:.0f}", f"{cpu:.1f}", f"{peak:.0f}"])
    for line in describe_memory(DATA, ["features"], dict(zip(table["clip"], table["shard"], strict=True))):
        print(line, file=sys.stderr)
    return rows


def _read_counters() -> tuple[int, int]:
    """Return the bytes that this process has read from the disk, and by read calls."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"]), int(lines["rchar"])


if __name__ == "__main__":
    command.run(main)
