"""Importance of each cell of the face: a row for each stream and method, a column for each target."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import FigureInputs, draw_overlay, hide_axes, make_empty_figure, title_column, wrap_name

SECTION, ORDER = "importance", 160
CAPTION = (
    "Regions of the face on which predictions depend, mean over clips, on the mean face. Occlusion: change of a"
    " prediction when a cell is replaced by its mean over clips (Zeiler and Fergus 2014). Integrated gradients: the"
    " cell's contribution to the difference between the predictions for the clip and for the mean clip (Sundararajan et"
    " al. 2017). All panels of a method share a scale, which ends at the 98th percentile of the cells. The mean clip does"
    " not move, unlike training clips, so predictions may change for that reason alone."
)
TITLES = {"occlusion": "occlusion", "integrated_gradients": "integrated gradients"}


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    cells = {(method, stream): maps for (_, method, stream), maps in results.importance.cells.items()}
    if not cells:
        return make_empty_figure("not measured: no stream has a spatial grid, or analyse.importance_clips is 0")
    columns, pictures = group.columns, results.importance.pictures
    figure = Figure(figsize=(1.45 * len(columns) + 1.2, 1.5 * len(cells) + 0.3), layout="constrained")
    grid = figure.subplots(len(cells), len(columns), squeeze=False)
    for axes, column in zip(grid[0], columns, strict=True):
        title_column(axes, column, len(group.columns), 9)
    for method, title in TITLES.items():
        rows = [row for row, key in zip(grid, cells, strict=True) if key[0] == method]
        streams = {stream: maps for (of_method, stream), maps in cells.items() if of_method == method}
        values_of_all = np.concatenate([maps.ravel() for maps in streams.values()])
        highest = float(np.percentile(values_of_all, 98)) or 1.0
        for row, (stream, maps) in zip(rows, streams.items(), strict=True):
            picture = pictures.get(stream, next(iter(pictures.values()), None))
            for axes, values in zip(row, np.moveaxis(maps, -1, 0), strict=True):
                hide_axes(axes, "")
                image = draw_overlay(axes, picture, values, highest)
            row[0].set_ylabel(f"{stream}\n{wrap_name(title, 12)}", fontsize=8)
        figure.colorbar(
            image,
            ax=[axes for row in rows for axes in row],
            label="change, fraction of the range",
            shrink=0.8,
            extend="max",
        )
    return figure
