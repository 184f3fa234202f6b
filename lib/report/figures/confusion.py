"""Confusion matrix of the largest fraction, for a group of targets that add up to 1. In a tie the first target counts."""

from itertools import product

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import FigureInputs, make_empty_figure, make_figure

SECTION, ORDER = "results", 110
CAPTION = "Confusion matrix of the largest fraction: rows are labels, columns predictions. On the diagonal both agree."


def applies_to(group: TargetGroup) -> bool:
    """Return whether the group's targets are fractions that add up to 1."""
    return group.head == "softmax"


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    predictions = results.predictions
    actual, predicted = (
        predictions.pivot(index="clip", columns="target", values=values)[group.columns]
        for values in ("actual", "predicted")
    )
    complete = actual.notna().all(axis=1)
    if not complete.any():
        return make_empty_figure("no clip has labels for all fractions")
    count = len(group.columns)
    pairs = [table[complete].to_numpy().argmax(1) for table in (actual, predicted)]
    counts = np.bincount(np.ravel_multi_index(pairs, (count, count)), minlength=count**2).reshape(count, count)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = make_figure(1.6 + 0.75 * count, 1.0 + 0.65 * count)
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for row, column in product(range(count), range(count)):
        colour = "white" if fractions[row, column] > 0.5 else "black"
        text = f"{fractions[row, column]:.0%}\n{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(count), group.columns, rotation=30, ha="right")
    axes.set_yticks(
        range(count), [f"{name} ({total})" for name, total in zip(group.columns, counts.sum(1), strict=True)]
    )
    axes.set(xlabel="largest predicted fraction", ylabel="largest fraction of the label (clips)")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="fraction of the row's clips", shrink=0.8)
    return figure
