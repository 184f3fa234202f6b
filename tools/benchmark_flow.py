"""Time our TV-L1 and OpenCV's on the aligned faces of clips, and compare their energies."""

import argparse
import statistics
import time
from pathlib import Path

import torch

from lib import errors, frames
from lib.errors import InputError
from lib.faces.align import Aligner
from lib.flow.energy import energy
from lib.flow.stream import BACKENDS, grey_levels

SOLVER = {
    "lambda_": 0.15,
    "theta": 0.3,
    "tau": 0.25,
    "scales": 5,
    "scale_step": 0.8,
    "warps": 5,
    "iterations": 300,
    "epsilon": 0.01,
    "median": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--runs", type=int, default=3, help="timed runs, in turn; medians are printed (%(default)s)")
    arguments = parser.parse_args()
    aligner = Aligner(112, 40, 0.5, 1.0, torch.device("cpu"))
    print("| clip | pairs | OpenCV ms/pair | ours ms/pair | ratio | energy, ours/OpenCV | median difference px |")
    print("|---|---|---|---|---|---|---|")
    for clip in arguments.clips:
        record = aligner(frames.sample(clip, clip.name, 5, 640, 90))
        if record.refused:
            raise InputError(f"{clip}: {record.refused}")
        grey = grey_levels(torch.from_numpy(record.arrays["faces"][record.arrays["found"] > 0]))
        seconds: dict[str, list[float]] = {name: [] for name in BACKENDS}
        flows = {}
        for _ in range(arguments.runs):
            for name, solve in BACKENDS.items():
                started = time.perf_counter()
                flows[name] = solve(grey[:-1], grey[1:], **SOLVER)
                seconds[name].append(time.perf_counter() - started)
        pairs = len(grey) - 1
        ours, opencv = (1000 * statistics.median(seconds[name]) / pairs for name in ("torch", "opencv"))
        mean = {name: energy(grey[:-1], grey[1:], flow).mean().item() for name, flow in flows.items()}
        apart = (flows["torch"] - flows["opencv"]).norm(dim=1).median().item()
        print(
            f"| {clip.name} | {pairs} | {opencv:.0f} | {ours:.0f} | {opencv / ours:.1f} |"
            f" {mean['torch'] / mean['opencv']:.3f} | {apart:.3f} |"
        )


if __name__ == "__main__":
    errors.run(main)
