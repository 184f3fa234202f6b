"""Histograms of the labels of each target, by split."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import SPLIT_STYLES, FigureInputs, format_title, label_left, legend_below, make_panels
from lib.report.words import format_range

_BINS = 20  # over a target's range

SECTION, ORDER = "data", 30
CAPTION = (
    "Distribution of each target's labels, by split. The splits should look similar. The narrower a distribution, the"
    " less a model can improve on the training mean."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    clips = results.clips
    labelled = clips.dropna(subset=group.columns, how="all")
    names = ["clip", "split", "target", "actual"]  # a target may have any of our names
    labelled = labelled.melt(names[:2], group.columns, "\0", "\1").set_axis(names, axis=1).dropna(subset="actual")
    figure, panels = make_panels(group)
    for target, axes in panels.items():
        rows = labelled[labelled["target"] == target]
        for split, (colour, _) in SPLIT_STYLES.items():
            values = rows.loc[rows["split"] == split, "actual"]
            count, edges = np.histogram(values, _BINS, (group.range[0], group.range[1]))
            number = labelled.loc[labelled["split"] == split, "clip"].nunique()
            style: dict[str, Any] = {"linewidth": 1.5, "linestyle": "-" if split == "validation" else "--"}
            if split == "training":
                style = {"fill": True, "alpha": 0.35}
            percentages = 100 * count / max(len(values), 1)
            axes.stairs(percentages, edges, color=colour, label=f"{split} ({number} clips)", **style)
        axes.set(title=format_title(target, rows, labelled), xlabel=f"label ({format_range(group)})", xlim=group.range)
        axes.tick_params(labelbottom=True)
    label_left(panels, "fraction of the split's clips (%)")
    legend_below(figure, panels)
    return figure
