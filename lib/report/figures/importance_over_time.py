"""Importance of each part of the clip's time, a panel for each target, by stream and method."""

import numpy as np
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

SECTION, ORDER = "importance", 170
CAPTION = (
    "Times of the clip on which predictions depend, mean over clips. Occlusion: change of a prediction when an eighth"
    " of a stream is replaced by its mean over clips. Integrated gradients: contribution of that eighth to the"
    " prediction. A flat curve: all times matter equally. A curve at zero: the stream does not matter."
)
_LINES = dict(zip(TITLES, ("-", "--"), strict=True))


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    changes_by_stream = {(method, stream): changes for (_, method, stream), changes in results.importance.times.items()}
    if not changes_by_stream:
        return make_empty_figure("not measured: no stream has several steps, or analyse.importance_clips is 0")
    streams = list(dict.fromkeys(stream for _, stream in changes_by_stream))
    figure, panels = make_panels(group)
    for index, (column, axes) in enumerate(panels.items()):
        for (method, stream), changes in changes_by_stream.items():
            percentages = 100 * (np.arange(len(changes)) + 0.5) / len(changes)
            colour, label = COLOURS[streams.index(stream) % len(COLOURS)], f"{stream}, {TITLES[method]}"
            axes.plot(percentages, changes[:, index], _LINES[method], marker=".", color=colour, label=label)
        axes.set(title=wrap_name(column), xlabel="part of the clip (%)", xlim=(0, 100))
        axes.tick_params(labelbottom=True)
    next(iter(panels.values())).set_ylim(bottom=0)  # shared by all panels, so after drawing
    label_left(panels, "change, fraction of the range")
    legend_below(figure, panels)
    return figure
