"""Scores of a cross-validation's experiments (rows of their data/scores.csv, a table a fold) together, as Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.report import words


def combine_folds(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each predictor, score and target: value, the mean over folds; low and high, the ends of its 95 %
    interval; fold_std, the standard deviation over folds; folds, clips and videos.

    Folds have no video in common, so the mean's distances to its ends are those of the folds, squared, added up and rooted,
    by the number of folds. The models, which share training clips, are taken as they are.
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
        cells = [words.format_value(means.loc[(name, score)], digits) for score, (_, digits) in scores.items()]
        lines.append(f"| {words.name_predictor(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)
