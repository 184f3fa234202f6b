"""Combine the scores of the folds of a cross-validation to one table, as Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.report import words


def combine_folds(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each predictor, score and target, given rows of data/scores.csv for each fold.

    value: mean over folds. low, high: ends of its 95 % interval. fold_std: standard deviation over folds. folds, clips,
    videos: their numbers. Folds have no video in common, so the distances from the mean to its ends are the root of the
    summed squares of the folds' distances, divided by the number of folds. The interval treats the models as fixed, although
    they share training clips.
    """
    rows = pd.concat(tables)
    rows = rows.assign(below=(rows["value"] - rows["low"]) ** 2, above=(rows["high"] - rows["value"]) ** 2)
    grouped = rows.groupby(["predictor", "score", "target"], sort=False)
    means = grouped[["value"]].mean().assign(folds=grouped.size(), fold_std=grouped["value"].std())
    lower, upper = (np.sqrt(grouped[side].sum(min_count=len(tables))) / len(tables) for side in ("below", "above"))
    means = means.assign(low=means["value"] - lower, high=means["value"] + upper)
    return means.assign(clips=grouped["clips"].sum(), videos=grouped["videos"].sum()).reset_index()


def format_markdown(table: pd.DataFrame, group: TargetGroup) -> str:
    """Return a row for each predictor: the means over targets of accuracy, R² and CCC."""
    scores = words.list_headline_scores(group)
    first, means = table.iloc[0], table[table["target"] == "mean"].set_index(["predictor", "score"])
    lines = [
        f"Mean of {', '.join(group.columns)} over {first['folds']} folds, {first['clips']} clips of {first['videos']}"
        " videos, none in two folds; 95 % interval over videos\n",
        f"| | {' | '.join(label for label, _ in scores.values())} |",
        "|---|" + "---|" * len(scores),
    ]
    for name in dict.fromkeys(table["predictor"]):
        cells = [
            words.format_value(means.loc[(name, score)], digits) if (name, score) in means.index else "–"
            for score, (_, digits) in scores.items()
        ]
        lines.append(f"| {words.name_predictor(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)
