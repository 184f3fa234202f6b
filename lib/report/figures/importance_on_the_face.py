"""A row for each stream and method, a column for each target: how much of the prediction hangs on each cell of the face."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import Results, blank, draw_overlay, nothing

SECTION, ORDER = "importance", 160
CAPTION = (
    "On which places of the aligned face the predictions rest, mean over clips, upon the mean face. Occlusion: how far a"
    " prediction moves when a cell (between the lines) is that of the mean clip at all times (Zeiler and Fergus 2014)."
    " Integrated gradients: how much of the way from the prediction for the mean clip to the clip's the cell makes up"
    " (Sundararajan et al. 2017). Streams and targets share a method's scale, so that a target for which all is dark rests"
    " on nothing that one place shows. The mean clip does not move, as no clip of training does: predictions that motion has"
    " nothing to do with may move too."
)
TITLES = {"occlusion": "occlusion", "integrated_gradients": "integrated gradients"}


def draw(results: Results, group: TargetGroup) -> Figure:
    cells = {(method, stream): of for (_, method, stream), of in results.importance.cells.items()}
    if not cells:
        return nothing("not measured: no stream has places, or analyse.importance_clips is 0")
    columns, pictures = group.columns, results.importance.pictures
    figure = Figure(figsize=(1.45 * len(columns) + 1.2, 1.5 * len(cells) + 0.3), layout="constrained")
    grid = figure.subplots(len(cells), len(columns), squeeze=False)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column, fontsize=9)
    for method, title in TITLES.items():
        rows = [row for row, key in zip(grid, cells, strict=True) if key[0] == method]
        streams = {stream: of for (of_method, stream), of in cells.items() if of_method == method}
        most = max(float(np.max(of)) for of in streams.values()) or 1.0
        for row, (stream, of) in zip(rows, streams.items(), strict=True):
            picture = pictures.get(stream, next(iter(pictures.values()), None))
            for axes, values in zip(row, np.moveaxis(of, -1, 0), strict=True):
                blank(axes, "")
                shown = draw_overlay(axes, picture, values, most)
            row[0].set_ylabel(f"{stream}\n{title}", fontsize=8)
        figure.colorbar(shown, ax=[axes for row in rows for axes in row], label="change, part of the range", shrink=0.8)
    return figure
