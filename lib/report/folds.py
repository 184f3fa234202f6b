"""Scores of a cross-validation's experiments (rows of their data/scores.csv, a table a fold) together, as Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.report import words


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each predictor, score and target: value, the mean over folds; low and high, the ends of its 95 %
    interval; fold_std, the standard deviation over folds; folds, clips and videos.

    Folds have no video in common, so the mean's distances to its ends are those of the folds, squared, added up and rooted,
    by the number of folds. The models, which share training clips, are taken as they are.
    """
    every = pd.concat(tables)
    every = every.assign(below=(every["value"] - every["low"]) ** 2, above=(every["high"] - every["value"]) ** 2)
    grouped = every.groupby(["predictor", "score", "target"], sort=False)
    found = grouped[["value"]].mean().assign(folds=grouped.size(), fold_std=grouped["value"].std())
    below, above = (np.sqrt(grouped[side].sum(min_count=len(tables))) / len(tables) for side in ("below", "above"))
    found = found.assign(low=found["value"] - below, high=found["value"] + above)
    return found.assign(clips=grouped["clips"].sum(), videos=grouped["videos"].sum()).reset_index()


def markdown(table: pd.DataFrame, group: TargetGroup) -> str:
    """Return a row for each predictor: the means over targets of accuracy, R² and CCC."""
    shown = words.headline_scores(group)
    first, means = table.iloc[0], table[table["target"] == "mean"].set_index(["predictor", "score"])
    lines = [
        f"Mean of {', '.join(group.columns)} over {first['folds']} folds, {first['clips']} clips of {first['videos']}"
        " videos, none in two folds; 95 % interval over videos\n",
        f"| | {' | '.join(label for label, _ in shown.values())} |",
        "|---|" + "---|" * len(shown),
    ]
    for name in dict.fromkeys(table["predictor"]):
        cells = [words.text(means.loc[(name, score)], digits) for score, (_, digits) in shown.items()]
        lines.append(f"| {words.predictor(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)
