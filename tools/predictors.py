"""Gather the predictions of DVC experiments, revisions, CSV files and baselines for the same clips, and compare them."""

from pathlib import Path
from typing import Any, NamedTuple

import dvc.api
import numpy as np
import pandas as pd

from lib.core import parameters
from lib.core.artifacts import CLIPS, DATA, GROUPS
from lib.core.clips import read_clip_table
from lib.core.errors import InputError
from lib.core.persons import read_persons
from lib.core.targets import TRAITS, TargetGroup, TargetSections
from lib.data import pooled
from lib.report import ceilings, comparison, words
from lib.scoring import baselines, paired, predictions
from lib.scoring.attributes import tabulate_attributes
from lib.scoring.baselines import is_baseline, is_video_in_training
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.ceilings import bound_scores
from lib.scoring.reliability import find_reliability, read_error_variance
from lib.sources import fiv2
from lib.sources._persons import read_groups

Sources = dict[str, list[str]]
"""Predictors by name: a list with a SOURCE for each seed."""

FIV2 = "traits", TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1)
"""The target group of FIV2's annotation files, and its name."""


class Gathered(NamedTuple):
    """Predictions for the same clips.

    predictions: by predictor, an array (N, K) for each seed. actual: labels (N, K), NaN where unknown. videos: (N,). group:
    the target group of the K columns. which: a description of the clips. reliability: of the labels (K,), NaN if unknown.
    """

    predictions: dict[str, list[np.ndarray]]
    actual: np.ndarray
    videos: np.ndarray
    group: TargetGroup
    which: str
    reliability: np.ndarray


def compare(sources: Sources, baseline: str, resamples: int, seed: int, out: Path, **which: Any) -> None:
    """Print and write the comparison of the predictors in `sources` and of the baselines.

    which: arguments of `gather_predictions` that select the clips.
    """
    gathered = gather_predictions(sources, **which)
    if baseline not in gathered.predictions:
        raise InputError(f"--baseline {baseline!r}; allowed: one of the predictors {', '.join(gathered.predictions)}")
    arrays, group, accuracy = gathered.predictions, gathered.group, words.name_accuracy(gathered.group)
    bootstrap = Bootstrap(resamples, seed)
    compared = paired.compare_predictors(arrays, gathered.actual, gathered.videos, baseline, group, bootstrap)
    bounds = ceilings.make_rows(bound_scores(gathered.reliability), ("mean", *group.columns))
    compared = pd.concat([compared, bounds], ignore_index=True) if len(bounds) else compared
    print(comparison.format_markdown(compared, baseline, gathered.which, accuracy, resamples))
    comparison.write(compared, baseline, accuracy, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def gather_predictions(
    sources: Sources, targets: str | None, labels: Path | None, split: str, unseen: bool
) -> Gathered:
    """Return the predictions of `sources` and of the baselines. Raises InputError unless all have the same clips."""
    name, group = find_target_group(targets) if labels is None else FIV2
    columns = group.columns
    table = read_labels(labels, name, columns)
    training, in_split = table[table["split"] == "training"], table[table["split"] == split]
    test = in_split[~is_video_in_training(training, in_split)] if unseen else in_split
    if training.empty or test.empty:
        kind = "training" if training.empty else f"{'unseen ' if unseen else ''}{split}"
        raise InputError(f"no {kind} clip has labels; select other clips with --labels, --split or --unseen")
    files = dict.fromkeys(source for seeds in sources.values() for source in seeds if not is_baseline(source))
    tables = {source: predictions.read(source, name, columns, in_split, test["clip"]) for source in files}
    for source, predicted in tables.items():
        first, expected = next(iter(tables.items()))
        predictions.check_same_clips(source, predicted.index, first, expected.index)
    if tables:  # baselines predict the same clips as the other predictors
        test = test[test["clip"].isin(next(iter(tables.values())).index)]
    validation = table[(table["split"] == "validation") & (split == "test")]
    vectors = pooled.pool_vectors(DATA) if labels is None else {}
    attributes = tabulate_attributes(table, find_persons(labels, table), vectors, labels or DATA)
    fitted = baselines.predict(training, test, validation, columns, vectors, attributes=attributes)
    fitted, _ = baselines.clip_predictions(fitted, group.range)
    if unknown := [source for seeds in sources.values() for source in seeds if source not in {*tables, *fitted}]:
        raise InputError(
            f"{unknown[0]} can't be fitted; required: labelled validation clips, --split test, and a stream for ridge"
        )
    sources = sources | {name: [name] for name in fitted if [name] not in sources.values()}
    tables |= {name: pd.DataFrame(values, test["clip"]) for name, values in fitted.items()}
    test = test.set_index("clip")
    arrays = {name: [tables[source].loc[test.index].to_numpy() for source in seeds] for name, seeds in sources.items()}
    videos = test["video"].to_numpy()
    which = f"{len(test)} clips of {len(set(videos))} videos of the {split} split"
    which += ", unseen in training" if unseen else ""
    actual = test[columns].to_numpy()
    reliability = find_reliability(actual, read_error_variance(test, columns), group)
    return Gathered(arrays, actual, videos, group, which, reliability)


def find_target_group(name: str | None) -> tuple[str, TargetGroup]:
    """Return the name and the settings of a target group of params.yaml, by default the model's first target group."""
    values = dvc.api.params_show()
    groups = parameters.check({"targets": values["targets"]}, TargetSections).targets
    name = name or values["model"]["targets"][0]
    if name not in groups:
        raise InputError(f"target group {name!r}; allowed: a section of `targets` in params.yaml: {', '.join(groups)}")
    return name, groups[name]


def find_persons(folder: Path | None, clips: pd.DataFrame) -> pd.DataFrame:
    """Return the groups of persons of the clips (index), from a folder with FIV2's files, or from data/groups.csv."""
    if folder is not None:
        return read_groups(sorted(folder.iterdir()), clips["clip"], fiv2.GROUPS).set_index("clip")
    return read_persons(GROUPS) if GROUPS.exists() else pd.DataFrame(index=clips["clip"])


def read_labels(folder: Path | None, name: str, columns: list[str]) -> pd.DataFrame:
    """Return clip, video, split and targets of all labelled clips, from annotation pickles or from the workspace's table."""
    if folder is not None:
        table = fiv2.read_annotations(folder).rename_axis("clip").reset_index()
        return table.assign(video=table["clip"].map(fiv2.video_of), corpus="fiv2", reason="")
    if not CLIPS.exists():
        raise InputError(f"{CLIPS} is missing; run `dvc repro download`, or use --labels FOLDER")
    table = read_clip_table(CLIPS)
    if missing := [column for column in columns if column not in table]:
        raise InputError(
            f"{CLIPS} has no column {missing[0]}, which params.yaml: targets.{name}.columns lists; run `dvc repro download`"
        )
    return table[table[columns].notna().any(axis=1)]
