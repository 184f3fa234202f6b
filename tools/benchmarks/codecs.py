"""Compare formats for storing optical flow: bytes per clip, error in pixels, time to write and to read."""

import argparse
from pathlib import Path

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.codecs", description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="CLIP", help="video, or shard of data/faces/ (.h5)")
    parser.add_argument(
        "--runs", type=int, default=5, help="number of timed runs, whose medians are printed (%(default)s)"
    )
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _codecs

    _codecs.run(arguments)


if __name__ == "__main__":
    command.run(main)
