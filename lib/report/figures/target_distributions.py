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
    "How often each target has which value, by split. The splits should look alike, and what a model can gain over the"
    " mean is bounded by how wide they are."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    clips = results.clips
    known = clips.dropna(subset=group.columns, how="all")
    known = known.melt(["clip", "split"], group.columns, "target", "actual").dropna(subset="actual")
    figure, panels = panels_of(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        for split, colour in OF_SPLIT.items():
            values = rows.loc[rows["split"] == split, "actual"]
            count, edges = np.histogram(values, _BINS, (group.range[0], group.range[1]))
            clips_ = known.loc[known["split"] == split, "clip"].nunique()
            look: dict[str, Any] = {"fill": True, "alpha": 0.35} if split == "training" else {"linewidth": 1.5}
            share = 100 * count / max(len(values), 1)
            axes.stairs(share, edges, color=colour, label=f"{split} ({clips_} clips)", **look)
        axes.set(title=title_of(target, rows, known), xlabel=f"actual ({scale(group)})", xlim=group.range)
        axes.tick_params(labelbottom=True)
    label_left(panels, "share of the split's clips (%)")
    legend_below(figure, panels)
    return figure
