"""Compare the predictions of DVC experiments, revisions and CSV files on the same clips: table, LaTeX and figure.

A predictor is NAME=SOURCE, or NAME=SOURCE,SOURCE,... for several seeds, or SOURCE alone. A SOURCE is a revision or the name
of an experiment whose data/predictions.csv DVC keeps; `workspace`; a CSV file with a column of clips and one for each
target; or a baseline of lib/scoring/baselines.py (they are in the table in any case, learnt from all labelled training
clips).
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import dvc.api
import numpy as np
import pandas as pd

from lib.core import command, parameters
from lib.core.artifacts import CLIPS, DATA
from lib.core.clips import SPLITS, read_clip_table
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.core.targets import TRAITS, TargetGroup, Targets
from lib.data import pooled
from lib.report import comparison, words
from lib.scoring import baselines, paired, predictions
from lib.scoring.baselines import is_baseline, is_seen
from lib.scoring.scores import Bootstrap
from lib.sources import fiv2

Sources = dict[str, list[str]]
"""Predictors by name: one SOURCE a seed."""

_FIV2 = TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1)


class Parameters(Section):
    targets: Targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictors", nargs="+", metavar="NAME=SOURCE[,SOURCE...]")
    add_options(parser)
    arguments = parser.parse_args()

    sources: Sources = {}
    for name, of_seed in map(parse_predictor, arguments.predictors):
        if name in sources or (is_baseline(name) and of_seed != [name]):
            raise InputError(
                f"predictor {name!r} is there twice; several seeds are NAME=SOURCE,SOURCE, and the baselines"
                f" ({', '.join(baselines.NAMES)}, ridge_...) are in the table in any case"
            )
        sources[name] = of_seed
    options = {key: value for key, value in vars(arguments).items() if key != "predictors"}
    compare(sources, **options)


def add_options(parser: argparse.ArgumentParser, baseline: str | None = None, out: str = "plots/comparison") -> None:
    """Add what `compare` takes beside the predictors."""
    parser.add_argument(
        "--baseline",
        required=baseline is None,
        default=baseline,
        metavar="NAME",
        help="the predictor that the others are held against" + (f" ({baseline})" if baseline else ""),
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--targets", metavar="NAME", help="target group (the first of model.targets in params.yaml)")
    which.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="FIV2's annotation pickles to score on, not data/clips.csv"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="(%(default)s)")
    parser.add_argument("--unseen", action="store_true", help="only clips whose video has no training clip")
    parser.add_argument("--resamples", type=int, default=10_000, help="for intervals and p-values (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(out), help=f"path without suffix ({out})")


class Gathered(NamedTuple):
    """Predictions of the same clips: of each predictor arrays (N, K), one a seed; actual (N, K), NaN where unknown; videos
    (N,); the target group that the K columns are; and which clips they are, in words."""

    predictions: dict[str, list[np.ndarray]]
    actual: np.ndarray
    videos: np.ndarray
    group: TargetGroup
    which: str


def compare(sources: Sources, baseline: str, resamples: int, seed: int, out: Path, **which: Any) -> None:
    """Print and write the comparison of the predictors in `sources` and of the baselines.

    which: the clips, as `gather_predictions` takes them.
    """
    found = gather_predictions(sources, **which)
    if baseline not in found.predictions:
        raise InputError(f"--baseline {baseline!r} is none of the predictors: {', '.join(found.predictions)}")
    group, arrays, accuracy = found.group, found.predictions, words.name_accuracy(found.group)
    compared = paired.compare_predictors(
        arrays, found.actual, found.videos, baseline, group, Bootstrap(resamples, seed)
    )
    print(comparison.format_markdown(compared, baseline, found.which, accuracy))
    comparison.write(compared, baseline, accuracy, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def gather_predictions(
    sources: Sources, targets: str | None, labels: Path | None, split: str, unseen: bool
) -> Gathered:
    """Return the predictions of `sources` and of the baselines. Raises InputError unless they are about the same clips."""
    name, group = find_target_group(targets) if labels is None else ("traits", _FIV2)
    columns = group.columns
    table = read_labels(labels, name, columns)
    training, test = table[table["split"] == "training"], table[table["split"] == split]
    of_split = test
    if unseen:
        test = test[~is_seen(training, test)]
    if training.empty or test.empty:
        lacking = "training" if training.empty else f"{'unseen ' if unseen else ''}{split}"
        raise InputError(f"there is no labelled {lacking} clip; --labels, --split and --unseen choose them")
    given = dict.fromkeys(one for of_seed in sources.values() for one in of_seed if not is_baseline(one))
    read = {one: predictions.read(one, name, columns, of_split, test["clip"]) for one in given}
    for source, found in read.items():
        first, of_first = next(iter(read.items()))
        predictions.check_same_clips(source, found.index, first, of_first.index)
    if read:  # the baselines predict what the others do
        test = test[test["clip"].isin(next(iter(read.values())).index)]
    validation = table[(table["split"] == "validation") & (split == "test")]
    blind = baselines.predict(training, test, validation, columns, pooled.pool_vectors(DATA) if labels is None else {})
    if unknown := [one for of_seed in sources.values() for one in of_seed if one not in {*read, *blind}]:
        raise InputError(f"{unknown[0]} needs labelled validation clips, --split test, and for ridge a stream")
    sources = sources | {name: [name] for name in blind if [name] not in sources.values()}
    read |= {name: pd.DataFrame(values, test["clip"]) for name, values in blind.items()}
    test = test.set_index("clip")
    arrays = {name: [read[one].loc[test.index].to_numpy() for one in of_seed] for name, of_seed in sources.items()}
    videos = test["video"].to_numpy()
    which = f"{len(test)} clips of {len(set(videos))} videos of the {split} split"
    which += ", unseen in training" if unseen else ""
    return Gathered(arrays, test[columns].to_numpy(), videos, group, which)


def parse_predictor(text: str) -> tuple[str, list[str]]:
    name, _, sources = text.partition("=")
    of_seed = sources.split(",") if sources else [name]
    if "" in of_seed or len(set(of_seed)) < len(of_seed):
        raise InputError(f"{text!r}; allowed: NAME=SOURCE,SOURCE with different sources, one a seed")
    return name, of_seed


def find_target_group(name: str | None) -> tuple[str, TargetGroup]:
    """Return the group of params.yaml that has this name, the first that the model predicts without one."""
    given = dvc.api.params_show()
    groups = parameters.check({"targets": given["targets"]}, Parameters).targets
    name = name or given["model"]["targets"][0]
    if name not in groups:
        raise InputError(f"target group {name!r} is none of params.yaml's targets: {', '.join(groups)}")
    return name, groups[name]


def read_labels(folder: Path | None, name: str, columns: list[str]) -> pd.DataFrame:
    """Return clip, video, split and targets of all clips that know one, from annotation pickles or the workspace's table."""
    if folder is not None:
        table = fiv2.read_annotations(folder).rename_axis("clip").reset_index()
        return table.assign(video=table["clip"].map(fiv2.video_of))
    if not CLIPS.exists():
        raise InputError(f"{CLIPS} is missing; run `dvc repro download`, or give --labels FOLDER")
    table = read_clip_table(CLIPS)
    if lacking := [column for column in columns if column not in table]:
        raise InputError(f"{CLIPS} has no column {lacking[0]}, which targets.{name} in params.yaml names")
    return table[table[columns].notna().any(axis=1)]


if __name__ == "__main__":
    command.run(main)
