"""Publish the trained model as a folder that others can load without this repository's data.

The folder has the weights (model.safetensors), the settings (config.json, preprocessing.json), the model card (README.md),
licences (LICENSES.md), and a rendered clip with its expected scores (smoke_test/). Loading it unpickles nothing.

examples:
  python -m tools.publish published                publish data/model.pt with docs/model_card.md
  python -m tools.publish published --check        predict the folder's clip, and compare the scores
  python -m tools.predict talk.mp4 --model published
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts
from lib.core.artifacts import MODEL, MODEL_CARD, PROVENANCE
from lib.core.errors import InputError

MOST = 1e-4
"""Largest allowed difference of a score between two machines, in the labels' units."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new folder, or with --check a published one")
    parser.add_argument("--model", type=Path, default=MODEL, help="trained model (%(default)s)")
    parser.add_argument("--check", action="store_true", help="check a published folder instead of writing one")
    arguments = parser.parse_args()
    if not arguments.check and not arguments.model.exists():  # checked first, because importing torch takes seconds
        raise InputError(f"{arguments.model} is missing; run `dvc repro train`")
    if arguments.check and not arguments.folder.is_dir():
        raise InputError(f"{arguments.folder} is not a folder; allowed with --check: a published folder")
    with interrupts.loading():
        from lib.serving import publish

    if not arguments.check:
        publish.publish(arguments.model, MODEL_CARD, PROVENANCE, arguments.folder)
        print(f"{arguments.folder}: {', '.join(sorted(path.name for path in arguments.folder.iterdir()))}")
        return
    difference = publish.measure_difference(arguments.folder)
    if difference > MOST:
        raise InputError(
            f"{arguments.folder}: scores differ from the expected ones by {difference:.1e}; allowed: {MOST:.0e}. Do not use"
            " the folder with these packages"
        )
    print(f"{arguments.folder}: the largest difference from the expected scores is {difference:.1e}")


if __name__ == "__main__":
    command.run(main)
