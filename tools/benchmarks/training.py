"""Measure parameters, FLOPs, speed, waiting time and memory of training, by variant, on random shards of FIV2's shape.

The column "read" is the number of clips per second that a single process turns into batches. Waiting includes the first
batch of an epoch, which can't be read ahead.
"""

import argparse

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.training", description=__doc__)
    parser.add_argument("--params", default="fiv2", help="file of params/, without suffix (%(default)s)")
    parser.add_argument(
        "--variants", nargs="+", metavar="VARIANT", help="asis (unchanged file), or variants of tools.ablate (all)"
    )
    parser.add_argument(
        "--batches", type=int, default=8, help="batches per epoch; the second of two epochs is measured (%(default)s)"
    )
    parser.add_argument("--no-training", action="store_true", help="leave out the columns that need a GPU")
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _training

    _training.run(arguments)


if __name__ == "__main__":
    command.run(main)
