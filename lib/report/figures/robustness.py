"""Loss of accuracy at each strength of a corruption of the stored faces, a panel for each corruption."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, FigureInputs, make_empty_figure
from lib.report.words import describe_corruption, name_accuracy

SECTION, ORDER = "robustness", 190
CAPTION = (
    "Loss of accuracy on the same clips when the stored faces are corrupted, from mild (left) to severe (right): mean"
    " over targets with 95 % interval over videos, and each target. Faces are not detected again, so detection failures"
    " are not counted; streams made from faces, such as flow, are recomputed. The model was not trained on corrupted"
    " faces."
)
_INTACT = "intact"
_ACROSS = 4  # number of panels per row


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    if results.robustness.empty:
        return make_empty_figure("not measured: the model reads no faces, or analyse.robustness_clips is 0")
    table = results.robustness[results.robustness["corruption"] != _INTACT]
    names = list(dict.fromkeys(table["corruption"]))
    rows = -(-len(names) // _ACROSS)
    figure = Figure(figsize=(2.3 * _ACROSS, 2.3 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, _ACROSS, sharey=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        of_name = table[table["corruption"] == name]
        strengths = [f"{strength:g}" for strength in dict.fromkeys(of_name["strength"])]
        places = np.arange(len(strengths))
        for target, colour in zip(group.columns, [*COLOURS] * len(group.columns), strict=False):
            losses = of_name.loc[of_name["target"] == target, "loss"]
            axes.plot(places, losses, marker=".", linewidth=0.8, color=colour, label=target)
        mean = of_name[of_name["target"] == "mean"]
        axes.plot(places, mean["loss"], marker="o", markersize=4, color="black", label="mean")
        axes.vlines(places, mean["low"], mean["high"], color="black")
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xlabel=name, xlim=(-0.3, len(strengths) - 0.7))
        axes.set_xticks(places, strengths)
    figure.supylabel(f"loss of {name_accuracy(group)}, {table['clips'].iloc[0]} clips", fontsize=9)
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(6, len(handles[0])), frameon=False)
    return figure


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the largest mean loss."""
    if results.robustness.empty:
        return ""
    means = results.robustness[results.robustness["target"] == "mean"].dropna(subset="loss")
    if means.empty:
        return ""
    row = means.loc[means["loss"].idxmax()]
    condition = describe_corruption(row["corruption"], row["strength"])
    return f"Here the largest mean loss is {row['loss']:.3f} in {name_accuracy(group)}, {condition}."
