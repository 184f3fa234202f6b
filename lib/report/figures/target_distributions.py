"""A histogram for each target of a group over its range, of each split's clips that know it."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import OF_SPLIT, Results, label_left, legend_below, panels_of, title_of
from lib.report.words import scale

_BINS = 20  # over a target's range

SECTION, ORDER = "data", 30
CAPTION = (
    "Distribution of each target's labels, by split. The splits should look alike. The narrower a distribution, the"
    " less a model can gain over the mean."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    clips = results.clips
    known = clips.dropna(subset=group.columns, how="all")
    known = known.melt(["clip", "split"], group.columns, "target", "actual").dropna(subset="actual")
    figure, panels = panels_of(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        for split, (colour, _) in OF_SPLIT.items():
            values = rows.loc[rows["split"] == split, "actual"]
            count, edges = np.histogram(values, _BINS, (group.range[0], group.range[1]))
            number = known.loc[known["split"] == split, "clip"].nunique()
            look: dict[str, Any] = {"linewidth": 1.5, "linestyle": "-" if split == "validation" else "--"}
            if split == "training":
                look = {"fill": True, "alpha": 0.35}
            share = 100 * count / max(len(values), 1)
            axes.stairs(share, edges, color=colour, label=f"{split} ({number} clips)", **look)
        axes.set(title=title_of(target, rows, known), xlabel=f"label ({scale(group)})", xlim=group.range)
        axes.tick_params(labelbottom=True)
    label_left(panels, "share of the split's clips (%)")
    legend_below(figure, panels)
    return figure
