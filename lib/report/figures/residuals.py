"""Bland-Altman plots (1986) of prediction minus label against the mean of both, a panel for each target.

Lines show the mean difference and the limits of agreement, at 1.96 standard deviations.
"""

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import FigureInputs, format_title, label_left, legend_below, make_panels, scatter_clips
from lib.report.words import format_range

SECTION, ORDER = "results", 80
CAPTION = (
    "Errors against the mean of prediction and label (Bland and Altman 1986). Solid line: mean error. Dashed lines:"
    " limits of agreement, between which 95 % of normally distributed errors lie. A cloud that falls from left to right"
    " shows regression to the mean: low values are predicted too high, and high values too low."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    labelled = results.predictions.dropna(subset="actual")
    figure, panels = make_panels(group)
    for target, axes in panels.items():
        rows = labelled[labelled["target"] == target]
        errors, means = rows["predicted"] - rows["actual"], (rows["predicted"] + rows["actual"]) / 2
        scatter_clips(axes, rows, means, errors)
        axes.axhline(errors.mean(), color="black", linewidth=0.8)
        for sign in (-1, 1):
            axes.axhline(errors.mean() + sign * 1.96 * errors.std(), color="black", linewidth=0.8, linestyle="--")
        axes.set(title=format_title(target, rows, labelled), xlabel=f"mean of both ({format_range(group)})")
        axes.tick_params(labelbottom=True)
    label_left(panels, "prediction − label")
    legend_below(figure, panels)
    return figure
