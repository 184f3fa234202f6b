"""Deletion curves, a panel for each target: accuracy without the most important cells, and without random cells."""

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import (
    COLOURS,
    FigureInputs,
    label_left,
    legend_below,
    make_empty_figure,
    make_panels,
    wrap_name,
)
from lib.report.figures.importance_on_the_face import TITLES
from lib.report.words import name_accuracy

SECTION, ORDER = "importance", 180
CAPTION = (
    "Test of the importance maps: accuracy as the most important cells are removed (replaced by the mean clip's; Samek"
    " et al. 2017), and as random cells are removed (band: range of the draws). A map is valid if its curve lies below"
    " the random one. If accuracy does not fall, the predictions need none of the removed cells."
)
_RANDOM = "random"


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    if results.deletion.empty:
        return make_empty_figure("not measured: no stream has a spatial grid, or analyse.importance_clips is 0")
    figure, panels = make_panels(group)
    for column, axes in panels.items():
        of_target = results.deletion[results.deletion["target"] == column]
        for (order, title), colour in zip((TITLES | {_RANDOM: "random cells"}).items(), COLOURS, strict=False):
            rows = of_target[of_target["order"] == order].sort_values("deleted")
            axes.plot(100 * rows["deleted"], rows["accuracy"], marker=".", color=colour, label=title)
            if order == _RANDOM:
                axes.fill_between(100 * rows["deleted"], rows["lowest"], rows["highest"], color=colour, alpha=0.2)
        axes.set(title=wrap_name(column), xlabel="cells removed (%)", xlim=(0, 100))
        axes.tick_params(labelbottom=True)
    label_left(panels, f"{name_accuracy(group)}, {results.deletion['clips'].iloc[0]} clips")
    legend_below(figure, panels)
    return figure
