"""A scatter for each target of a group, clips of seen and of unseen videos apart, with the line of perfect prediction;
clips whose target is unknown are not in its panel."""

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import Results, label_left, legend_below, panels_of, scatter_clips, square, title_of
from lib.report.words import scale

SECTION, ORDER = "results", 60
CAPTION = (
    "Each dot is a clip; on the line it is predicted as it is. A flat cloud is regression to the mean. Clips of videos"
    " that training has seen can be known by their video alone: look at the others."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    known = results.predictions.dropna(subset="actual")
    clips = known.groupby("seen")["clip"].nunique()
    figure, panels = panels_of(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        scatter_clips(axes, rows, rows["actual"], rows["predicted"], clips)
        square(axes, known, group, title_of(target, rows, known), "actual")
    label_left(panels, f"predicted ({scale(group)})")
    legend_below(figure, panels)
    return figure
