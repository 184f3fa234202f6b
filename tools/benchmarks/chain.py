"""Compare start-up, CPU time per clip and memory of an exported chain (`tools.export --chain`) with those of tools.predict.

Both predict the first clip, then all clips, alternately. Times are CPU seconds of the process and its threads, so that
other processes of the machine matter less. A clip's time is that of all clips minus that of one, divided by the others.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.core import command
from lib.core.errors import InputError

_PROJECT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.chain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="video file; at least two")
    parser.add_argument("--model", type=Path, required=True, help="trained model")
    parser.add_argument("--chain", type=Path, required=True, metavar="FOLDER", help="its exported chain")
    parser.add_argument("--runs", type=int, default=3, help="number of runs, whose medians are printed (%(default)s)")
    arguments = parser.parse_args()
    if len(arguments.clips) < 2:
        raise InputError("CLIP: 1 clip; allowed: at least 2, since a clip's time is a difference; name more clips")
    clips = [str(clip.absolute()) for clip in arguments.clips]
    programs = {
        "PyTorch": [
            sys.executable,
            "-m",
            "tools.predict",
            "--format",
            "jsonl",
            "--model",
            str(arguments.model.absolute()),
        ],
        "chain": [sys.executable, str(arguments.chain.absolute() / "predict.py")],
    }
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}
    for _ in range(arguments.runs):
        for name, program in programs.items():
            runs[name].append(measure(program, clips))
    print("| | start-up, CPU s | a clip, CPU s | peak memory, MiB |\n|---|---|---|---|")
    medians = {
        name: [statistics.median(values) for values in zip(*of_program, strict=True)]
        for name, of_program in runs.items()
    }
    medians["ratio"] = [first / second for first, second in zip(medians["PyTorch"], medians["chain"], strict=True)]
    for name, (start, clip, memory) in medians.items():
        print(f"| {name} | {start:.2f} | {clip:.2f} | {memory:.{1 if name == 'ratio' else 0}f} |")


def measure(program: Sequence[str], clips: Sequence[str]) -> tuple[float, float, float]:
    """Return a program's start-up and its time per clip in CPU seconds, and its peak memory in MiB."""
    first_clip, _ = run([*program, clips[0]])
    all_clips, memory = run([*program, *clips])
    clip = (all_clips - first_clip) / (len(clips) - 1)
    return first_clip - clip, clip, memory


def run(line: Sequence[str]) -> tuple[float, float]:
    """Return the CPU seconds and the peak memory in MiB of a command. Raises InputError if it fails."""
    process = subprocess.Popen(line, cwd=_PROJECT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(
            f"{' '.join(line[:4])} ends with status {process.returncode}; allowed: clips that it can predict"
        )
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    command.run(main)
