"""For each target of a group the mean of the actual over the mean of the predicted values of clips, in up to ten parts
of as many each in the order of what is predicted: on the line what is predicted holds on average (Murphy and Winkler
1977)."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, Results, label_left, panels_of, square, title_of
from lib.report.words import scale

_PARTS = 10  # of a reliability diagram

SECTION, ORDER = "results", 100
CAPTION = (
    "Mean of the actual over the mean of the predicted values, in up to ten parts of as many clips each in the order of"
    " what is predicted: on the line what is predicted holds on average (Murphy and Winkler 1977)."
)


def applies_to(group: TargetGroup) -> bool:
    """Return whether targets of the group are also scored as present or absent."""
    return bool(group.detect)


def draw(results: Results, group: TargetGroup) -> Figure:
    known = results.predictions.dropna(subset="actual")
    figure, panels = panels_of(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target].sort_values("predicted", kind="stable")
        if len(rows):
            part = np.arange(len(rows)) * min(_PARTS, len(rows)) // len(rows)
            of_part = rows.groupby(part)[["predicted", "actual"]].mean()
            axes.plot(
                of_part["predicted"], of_part["actual"], marker="o", markersize=4, color=COLOURS[0], clip_on=False
            )
        square(axes, known, group, title_of(target, rows, known), "mean predicted")
    label_left(panels, f"mean actual ({scale(group)})")
    return figure
