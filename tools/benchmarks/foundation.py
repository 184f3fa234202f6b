"""Measure seconds, memory and disk space of each stream of params/fiv2_foundation.yaml, and of a training step.

The networks have the size of those that the file names, and random weights, so nothing is downloaded. On a CPU, seconds are
CPU seconds, and memory is the largest memory of the process up to the end of the row. On a GPU, memory is the GPU's.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.foundation", description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="a video file")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of the parameters")
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _foundation

    _foundation.run(arguments)


if __name__ == "__main__":
    command.run(main)
