"""Table and figure of accuracy against gaps between groups, from experiments with each value of train.fairness."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import dvc.api
import numpy as np
import pandas as pd

from lib.core.artifacts import CLIPS, GROUPS, PREDICTIONS, TEXT_COLUMNS
from lib.core.clips import read_clip_table, read_csv
from lib.core.errors import InputError
from lib.core.persons import read_persons
from lib.core.targets import TargetGroup
from lib.report import fairness
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.conformal import compute_half_widths
from lib.scoring.fairness import ComparedClips, ModelPredictions, choose_pair, compare_settings
from lib.scoring.predictions import check_same_clips
from tools.predictors import Sources, find_target_group

_TEST, _VALIDATION = "test", "validation"


def show_fair(
    sources: Sources, column: str, targets: str | None, unseen: bool, bootstrap: Bootstrap, out: Path
) -> None:
    """Print and write accuracy and gaps of experiments by train.fairness, for the groups of a column of data/groups.csv.

    sources: experiments of each seed by SETTING, or by SETTING-foldN for cross-validation, whose folds are scored together.
    """
    name, target_group = find_target_group(targets)
    level = float(dvc.api.params_show()["train"]["interval"])
    settings: dict[str, list[list[str]]] = {}
    for source, labels in sources.items():
        settings.setdefault(source.partition("-")[0], []).append(labels)
    tables = {
        setting: [_read_folds(of_seed, name, target_group, level, unseen) for of_seed in zip(*folds, strict=True)]
        for setting, folds in settings.items()
    }
    reference = next(iter(tables.values()))[0]
    for setting, seeds in tables.items():
        for table in seeds:
            check_same_clips(setting, table.index, "none", reference.index)
    persons = read_persons(GROUPS)[column]
    training = read_clip_table(CLIPS).query("split == 'training'")
    training_labels = target_group.to_unit(training[target_group.columns].to_numpy(float))
    pair = choose_pair(training_labels, training["video"].to_numpy(), _find_groups(persons, training["clip"]))
    clips = ComparedClips(
        reference["actual"].to_numpy(float),
        reference["video", ""].to_numpy(),
        _find_groups(persons, reference.index),
        pair=pair,
        target_group=target_group,
    )
    runs = {
        setting: [
            ModelPredictions(
                table.loc[reference.index, "predicted"].to_numpy(float),
                table.loc[reference.index, "width"].to_numpy(float),
            )
            for table in seeds
        ]
        for setting, seeds in tables.items()
    }
    compared = compare_settings(runs, clips, bootstrap)
    counts = ", ".join(f"{(clips.person_groups == name).sum()} {name}" for name in pair)
    which = f"{len(reference)} clips of {len(set(clips.videos))} videos ({counts})" + (
        ", unseen in training" if unseen else ""
    )
    print(fairness.format_markdown(compared, which, pair, target_group, level))
    fairness.write(compared, which, pair, target_group, level=level, out=out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def _find_groups(persons: pd.Series, clips: Sequence[str] | pd.Series | pd.Index) -> np.ndarray:
    return persons.reindex([*clips]).fillna("").to_numpy(str)


def _read_folds(
    labels: Sequence[str], name: str, target_group: TargetGroup, level: float, unseen: bool
) -> pd.DataFrame:
    """Return the test clips (index) of all folds, with columns (actual | predicted | width, TARGET) and (video, "")."""
    table = pd.concat([_read_run(label, name, target_group, level, unseen) for label in labels])
    return table.sort_index()


def _read_run(label: str, name: str, target_group: TargetGroup, level: float, unseen: bool) -> pd.DataFrame:
    """Return the test clips of one experiment. The validation clips set the widths of the intervals, as in training."""
    rows = read_csv(io.StringIO(dvc.api.read(str(PREDICTIONS), rev=label)), TEXT_COLUMNS[PREDICTIONS])
    rows = rows[rows["targets"] == name]
    splits = {split: _widen(rows[rows["split"] == split], target_group) for split in (_TEST, _VALIDATION)}
    test, held_out = splits[_TEST], splits[_VALIDATION]
    if unseen:
        test = test[~test["video_in_training", ""].astype(bool)]
    if test.empty or held_out.empty:
        raise InputError(
            f"experiment {label} has {len(test)} test and {len(held_out)} validation clips of {name}; allowed: one or more"
            " of each; choose another --targets, or leave out --unseen"
        )
    scale, test_scale = (table["scale"].to_numpy(float) for table in (held_out, test))
    scale_or_none = scale if np.isfinite(scale).all() else None
    actual, predicted = (held_out[part].to_numpy(float) for part in ("actual", "predicted"))
    widths = compute_half_widths(actual, predicted, held_out["video", ""].to_numpy(), scale_or_none, level)
    widths = widths * (np.ones_like(test_scale) if scale_or_none is None else test_scale)
    of_targets = pd.DataFrame(widths, test.index, pd.MultiIndex.from_product([["width"], target_group.columns]))
    return test.join(of_targets)


def _widen(rows: pd.DataFrame, target_group: TargetGroup) -> pd.DataFrame:
    """Return a row for each labelled clip with columns (actual, predicted or scale, TARGET), video and video_in_training."""
    values = rows.pivot(index="clip", columns="target", values=["actual", "predicted", "scale"])
    values = values[
        [(part, column) for part in ("actual", "predicted", "scale") for column in target_group.columns]
    ].astype(float)
    by_clip: Mapping[str, pd.Series] = {
        name: rows.groupby("clip")[name].first() for name in ("video", "video_in_training")
    }
    for name, of_clip in by_clip.items():
        values[name, ""] = of_clip
    return values[values["actual"].notna().any(axis=1)]
