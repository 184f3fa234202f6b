"""Compare speed and accuracy of TV-L1 implementations and other methods of optical flow on aligned faces."""

import argparse
from pathlib import Path

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.flow", description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="CLIP", help="video, or shard of data/faces/ (.h5)")
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="methods in addition to cv2 DualTVL1 (default: all that this machine can run)",
    )
    parser.add_argument(
        "--runs", type=int, default=3, help="number of timed runs, whose medians are printed (%(default)s)"
    )
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _flow

    _flow.run(arguments)


if __name__ == "__main__":
    command.run(main)
