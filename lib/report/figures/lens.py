"""Correlation of named measures with each label, next to their correlation with the score of the model."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report import ceilings
from lib.report.figures._base import (
    COLOURS,
    PANELS_PER_ROW,
    FigureInputs,
    draw_intervals,
    legend_below,
    make_grid,
    wrap_name,
)

SECTION, ORDER = "features", 125
CAPTION = (
    "Lens model (Brunswik 1956): Pearson's r of named measures of behaviour with the label (cue validity) and with the score"
    " of the model (cue utilisation), with 95 % intervals over videos. Similar values: the model uses the measure, or what"
    " goes along with it, as the raters did. A correlation does not show that either of them depends on the measure."
)

_MOST = 16  # number of measures in the figure
_SIDES = (("label", COLOURS[0], "o", -0.15), ("model", COLOURS[1], "D", 0.15))


def applies(results: FigureInputs) -> bool:
    """Return whether the run has a stream of named measures."""
    return not results.lens.empty


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    table = results.lens
    names = choose_features(table)
    figure, grid = make_grid(
        len(group.columns),
        PANELS_PER_ROW,
        lambda rows, columns: (2.4 + 1.5 * columns, rows * (0.9 + 0.26 * len(names))),
    )
    panels = dict(zip(group.columns, grid, strict=True))
    for target, axes in panels.items():
        for side, colour, marker, shift in _SIDES:
            part = table[(table["target"] == target) & (table["side"] == side)].set_index("feature").reindex(names)
            draw_intervals(
                axes, np.arange(len(names)) + shift, part, colour, "r", marker=marker, label=f"r with the {side}"
            )
        axes.axvline(0, color="grey", linewidth=0.8)
        bound = ceilings.find(results.scores, "pearson", target)
        for value in (bound, -bound):
            ceilings.draw(axes, value)
        axes.set_title(wrap_name(target, 18), fontsize=9)
        axes.tick_params(labelbottom=True)
        axes.locator_params(axis="x", nbins=4)
    grid[0].set_yticks(range(len(names)), names, fontsize=7)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    legend_below(figure, panels)
    return figure


def choose_features(table: pd.DataFrame) -> list[str]:
    """Return the features with the largest absolute correlations with a label or a score, the largest first."""
    return table.assign(size=table["r"].abs()).groupby("feature")["size"].max().nlargest(_MOST).index.tolist()


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return how similar the two sides of the lens are over all measures, for the mean of the targets."""
    if not applies(results):
        return ""
    sides = results.lens.pivot_table(index=["target", "feature"], columns="side", values="r").dropna()
    by_target = [part["label"].corr(part["model"]) for _, part in sides.groupby("target") if len(part) > 2]
    count = min(_MOST, results.lens["feature"].nunique())
    text = f"Shown: the {count} of {results.lens['feature'].nunique()} measures with the largest correlations."
    if ceilings.explain(results.scores):
        text += " Dashed: the largest expected r with the label, given the reliability of the labels."
    if not by_target or np.isnan(by_target).any():
        return text
    return f"{text} Over all measures, the two columns of r correlate by {np.mean(by_target):.2f} (mean over targets)."
