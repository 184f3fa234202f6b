"""Compare speed and results of the stages frames, faces and flow with a straightforward implementation.

The straightforward implementation decodes with cv2.VideoCapture, runs facenet-pytorch's MTCNN with its defaults (faces
from 20 pixels) on one full-size frame after another, and OpenCV's DualTVL1 on one pair after another. Two other variants
are between it and `ours`: "earlier version" decodes all frames, creates a scaler for each frame, and runs
facenet-pytorch's MTCNN on every frame, in batches; "every frame" is ours with faces.key_seconds = 0. Times are CPU
seconds of all threads of the process, or wall seconds with a GPU.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.preprocessing", description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="video file")
    parser.add_argument(
        "--runs", type=int, default=3, help="number of runs of our variants, whose medians are printed (%(default)s)"
    )
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _preprocessing

    _preprocessing.run(arguments)


if __name__ == "__main__":
    command.run(main)
