"""A row for each encoder and for the fused vector: the clips on a plane, coloured by each target and by video."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, Results, blank, nothing
from lib.report.words import scale

SECTION, ORDER = "features", 130
CAPTION = (
    "What the encoders make of clips, laid out by t-SNE so that clips with like vectors lie together (distances between"
    " groups and axes mean nothing): one colour in one place says that a target is told. Right: the six videos of the most"
    " clips, and how often the nearest neighbour of a clip is of the same video; far above chance, the vectors tell the"
    " video, and a split that shares videos leaks."
)
_VIDEOS = len(COLOURS)


def draw(results: Results, group: TargetGroup) -> Figure:
    if results.map.empty:
        return nothing("not drawn: analyse.map_clips is 0")
    labels = results.clips.set_index("clip")[[*group.columns]]
    names = list(dict.fromkeys(results.map["features"]))
    figure = Figure(figsize=(1.35 * (len(group.columns) + 1) + 0.9, 1.5 * len(names) + 0.3), layout="constrained")
    grid = figure.subplots(len(names), len(group.columns) + 1, squeeze=False)
    for row, name in zip(grid, names, strict=True):
        table = results.map[results.map["features"] == name]
        actual = labels.loc[table["clip"]]
        for axes, column in zip(row, group.columns, strict=False):
            shown = axes.scatter(
                table["x"],
                table["y"],
                s=5,
                c=actual[column],
                vmin=group.range[0],
                vmax=group.range[1],
                plotnonfinite=False,
            )
            axes.set_title(column, fontsize=8)
        most = table["video"].value_counts(sort=True).index[:_VIDEOS]
        for axes in row:
            blank(axes, "")
        rank = table["video"].map({video: at for at, video in enumerate(most)}).fillna(-1).astype(int)
        table = table.assign(colour=[(*COLOURS, "#dddddd")[at] for at in rank]).iloc[np.argsort(rank, kind="stable")]
        row[-1].scatter(table["x"], table["y"], s=5, c=table["colour"])
        row[-1].set_title("video", fontsize=8)
        one = table.iloc[0]
        if np.isfinite(one["same_video"]):
            said = f"same video nearest:\n{one['same_video']:.0%} (by chance {one['same_video_by_chance']:.0%})"
            row[-1].set_xlabel(said, fontsize=7)
        row[0].set_ylabel(name, fontsize=9)
    figure.colorbar(shown, ax=grid, label=f"actual ({scale(group)}), {len(table)} clips", shrink=0.8)
    return figure
