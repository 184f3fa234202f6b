"""Predict the targets of video clips with the trained model, through the same functions as the pipeline's stages."""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from lib.core import command
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.predict import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "clips", nargs="+", type=Path, metavar="CLIP", help="a video file (after -- if it begins with a dash)"
    )
    parser.add_argument("--model", type=Path, default=Path("data/model.pt"), help="a trained model (%(default)s)")
    arguments = parser.parse_args()
    command.log_to("predict")
    predict = Predictor(arguments.model, best_device())
    names = titles(predict.served.targets)
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
            writer.writerow([clip, *(f"{value:.6f}" for group in found.values() for value in group.values()), ""])
    sys.exit(1 if refused else 0)


def titles(targets: Targets) -> list[str]:
    """Return the columns' names, with that of their group where two groups have a column of one name."""
    count = Counter(column for group in targets.values() for column in group.columns)
    return [
        f"{column} ({name})" if count[column] > 1 else column
        for name, group in targets.items()
        for column in group.columns
    ]


if __name__ == "__main__":
    command.run(main)
