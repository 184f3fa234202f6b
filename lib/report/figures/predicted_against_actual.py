"""A scatter for each target of a group, clips of seen and of unseen videos apart, with the line of perfect prediction;
clips whose target is unknown are not in its panel."""

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import OF_VIDEOS, Results, label_left, legend_below, panels_of, square, title_of
from lib.report.words import scale

SECTION, ORDER = "results", 60
CAPTION = (
    "Each dot is a clip; on the line it is predicted as it is. A flat cloud is regression to the mean. Clips of videos"
    " that training has seen can be known by their video alone: look at the others."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    known = results.predictions.dropna(subset="actual")
    figure, panels = panels_of(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        for seen, colour, label in OF_VIDEOS:
            part = rows[rows["seen"] == seen]
            clips = known.loc[known["seen"] == seen, "clip"].nunique()
            axes.scatter(
                part["actual"], part["predicted"], s=9, alpha=0.7, color=colour, linewidths=0, clip_on=False, zorder=3,
                label=f"{label} ({clips})",
            )  # fmt: skip
        square(axes, known, group, title_of(target, rows, known), "actual")
    label_left(panels, f"predicted ({scale(group)})")
    legend_below(figure, panels)
    return figure
