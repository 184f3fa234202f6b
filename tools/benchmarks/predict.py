"""Time predictions of video clips: start-up, a complete prediction, each of its parts, and clips per minute by
`tools.predict` with one and two workers.

By default the model has random weights, which do not change the speed. --model uses a trained model.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="video file")
    parser.add_argument("--params", default="fiv2", help="file of params/, without suffix (%(default)s)")
    parser.add_argument("--model", type=Path, help="trained model, in place of --params")
    parser.add_argument("--runs", type=int, default=5, help="number of runs, whose medians are printed (%(default)s)")
    parser.add_argument(
        "--many",
        type=int,
        default=8,
        help="number of clips N for clips per minute, from the time for 2 N clips minus the time for N (%(default)s)",
    )
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="measure CPU seconds, for a shared machine (except for clips per minute; of `tools.predict` until its end)",
    )
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _predict

    _predict.run(arguments)


if __name__ == "__main__":
    command.run(main)
