"""How much accuracy the model loses when a stream is another clip's, its steps are in another order, or nothing moves."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures.base import A_ROW, COLOURS, Results, nothing
from lib.report.words import accuracy

CAPTION = (
    "What the model needs: how much accuracy it loses on the same clips when a stream is another clip's (permutation"
    " importance, Breiman 2001), when a stream's steps are in another order, and when there is no motion; with 95 %"
    " intervals over videos. At zero the prediction does without. Flow of zero is like nothing in training, so that it can"
    " move a prediction that motion has nothing to do with: hold it against another clip's."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    if results.controls.empty:
        return nothing("not measured: evaluate.control_clips is 0")
    table = results.controls[results.controls["loss"].notna()]
    names, targets = list(dict.fromkeys(table["control"])), ["mean", *group.columns]
    columns = min(A_ROW, len(targets))
    rows = -(-len(targets) // columns)
    figure = Figure(figsize=(1.9 + 1.5 * columns, rows * (0.7 + 0.26 * len(names))), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(targets) :]:
        axes.set_visible(False)
    for axes, target in zip(grid, targets, strict=False):
        of_target = table[table["target"] == target].set_index("control").reindex(names)
        places = np.arange(len(names))
        axes.hlines(places, of_target["low"], of_target["high"], color=COLOURS[0])
        axes.plot(of_target["loss"], places, "o", markersize=4, color=COLOURS[0])
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_title(target, fontsize=9)
        axes.tick_params(labelbottom=True)
        axes.locator_params(axis="x", nbins=4)
    grid[0].set_yticks(range(len(names)), names)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    repeats = table["repeats"].max()
    label = f"loss of {accuracy(group)}, {table['clips'].iloc[0]} clips"
    figure.supxlabel(label + (f", mean of {repeats} draws" if repeats > 1 else ""), fontsize=9)
    return figure
