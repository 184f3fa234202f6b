"""Render clips of talking heads and a table of ratings, to try the example without data of your own.

Writes FOLDER/clips/*.mp4 and FOLDER/ratings.csv. `lively` follows the motion of the head, `warm` the colour of the image.
The ratings are planted and say nothing about anybody.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lib.core import command
from lib.media.writing import write_video
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=20, help="number of clips (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a clip (%(default)s)")
    options = parser.parse_args()
    (options.folder / "clips").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(options.clips):
        name, motion, warmth = f"person{number:02d}.mp4", rng.random(), rng.random()
        performance = Performance(2 * warmth - 1, 0.4 + 1.6 * motion, 0.5, number)
        images, voice = render(Identity(number), performance, options.seconds, 15)
        write_video(options.folder / "clips" / name, images, 15, voice, SAMPLE_RATE)
        rows.append({"file": name, "lively": round(1 + 6 * motion, 1), "warm": round(1 + 6 * warmth, 1)})
    pd.DataFrame(rows).to_csv(options.folder / "ratings.csv", index=False)
    print(f"written: {options.clips} clips and {options.folder / 'ratings.csv'}")


if __name__ == "__main__":
    command.run(main)
