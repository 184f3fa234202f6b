"""Predict the targets of video clips with the trained model, through the same functions as the pipeline's stages."""

import argparse
import csv
import sys
from pathlib import Path

from lib.core import command
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.predict import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "clips", nargs="+", type=Path, metavar="CLIP", help="a video file (after -- if it begins with a dash)"
    )
    parser.add_argument("--model", type=Path, default=Path("data/model.pt"), help="a trained model (%(default)s)")
    arguments = parser.parse_args()
    predict = Predictor(arguments.model, best_device())
    names = [column for group in predict.served.targets.values() for column in group.columns]
    writer = csv.writer(sys.stdout)
    writer.writerow(["clip", *names, "refused"])
    refused = 0
    for clip in arguments.clips:
        try:
            found = predict(clip)
        except InputError as error:
            writer.writerow([clip, *[""] * len(names), error])
            refused += 1
        else:
            writer.writerow([clip, *(f"{found[name]:.6f}" for name in names), ""])
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    command.run(main)
