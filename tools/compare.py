"""Compare the predictions of DVC experiments, revisions and CSV files on the same clips: table, LaTeX and figure.

A predictor is NAME=SOURCE, or NAME=SOURCE,SOURCE,... for several seeds, or SOURCE alone. A SOURCE is one of:
- a git revision or the name of an experiment whose data/predictions.csv is in DVC's cache
- workspace, for the predictions of the working folder
- a CSV file with a column of clips and a column for each target, under any names that contain the target, or its letter
  (sample_id, pred_O, pred_C, ...)
- ARRAY.npy@CLIPS.txt@OCEAN: an array with a row per clip, a text file with the clips' names, and the order of the columns
- a baseline of lib/scoring/baselines.py

Every table also contains all baselines, fitted to all labelled training clips; stacked ridge and boosted trees also to
validation clips.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lib.core import command, interrupts
from lib.core.clips import SPLITS
from lib.core.errors import InputError

if TYPE_CHECKING:  # it takes seconds to load, and --help does not need it
    from tools.predictors import Sources


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictors", nargs="+", metavar="NAME=SOURCE[,SOURCE...]")
    add_options(parser)
    arguments = parser.parse_args()

    with interrupts.loading():
        from lib.scoring import baselines
        from tools.predictors import compare

    sources: Sources = {}
    for name, sources_of_predictor in map(parse_predictor, arguments.predictors):
        if name in sources or (baselines.is_baseline(name) and sources_of_predictor != [name]):
            raise InputError(
                f"predictor {name!r} occurs twice; write several seeds as NAME=SOURCE,SOURCE, and leave out the baselines"
                f" ({', '.join(baselines.NAMES)}, ridge_...), which are always in the table"
            )
        sources[name] = sources_of_predictor
    options = {key: value for key, value in vars(arguments).items() if key != "predictors"}
    compare(sources, **options)


def add_options(parser: argparse.ArgumentParser, baseline: str | None = None, out: str = "plots/comparison") -> None:
    """Add the options of `predictors.compare`, all except the predictors."""
    parser.add_argument(
        "--baseline",
        required=baseline is None,
        default=baseline,
        metavar="NAME",
        help="predictor that all others are compared with" + (f" ({baseline})" if baseline else ""),
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--targets", metavar="NAME", help="target group (the first of model.targets in params.yaml)")
    which.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="folder of FIV2's annotation pickles, in place of data/clips.csv"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="split to compare on (%(default)s)")
    parser.add_argument("--unseen", action="store_true", help="only clips whose video has no training clip")
    parser.add_argument(
        "--resamples", type=int, default=10_000, help="number of resamples for intervals and p-values (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(out), help=f"path of the output files, without suffix ({out})")


def parse_predictor(text: str) -> tuple[str, list[str]]:
    """Return the name and the sources of NAME=SOURCE,SOURCE."""
    name, _, sources = text.partition("=")
    source_list = sources.split(",") if sources else [name]
    if "" in source_list or len(set(source_list)) < len(source_list):
        raise InputError(f"{text!r}; allowed: NAME=SOURCE,SOURCE with a different source for each seed")
    return name, source_list


if __name__ == "__main__":
    command.run(main)
