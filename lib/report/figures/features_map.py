"""Embedding map: clips projected to a plane, coloured by each target and by video; a row for each encoder and for FUSED."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, FigureInputs, hide_axes, make_empty_figure, title_column
from lib.report.words import format_range

SECTION, ORDER = "features", 130
CAPTION = (
    "Clips as points by t-SNE of each encoder's output: similar vectors lie close together; axes and distances between"
    " groups have no meaning. If points of similar colour lie together, the vectors contain the target. Right: the"
    " six videos with the most clips, and how often a clip's nearest neighbour is of the same video. If this is far more"
    " frequent than for random pairs, the vectors identify the video: scores are then too high if test videos have clips"
    " in training."
)
_VIDEOS = len(COLOURS)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    if results.map.empty:
        return make_empty_figure("not drawn: analyse.map_clips is 0")
    labels = results.clips.set_index("clip")[[*group.columns]]
    names = list(dict.fromkeys(results.map["features"]))
    figure = Figure(figsize=(1.35 * (len(group.columns) + 1) + 0.9, 1.5 * len(names) + 0.3), layout="constrained")
    grid = figure.subplots(len(names), len(group.columns) + 1, squeeze=False)
    for row, name in zip(grid, names, strict=True):
        table = results.map[results.map["features"] == name]
        actual = labels.loc[table["clip"]]
        for axes, column in zip(row, group.columns, strict=False):
            points = axes.scatter(
                table["x"],
                table["y"],
                s=5,
                c=actual[column],
                vmin=group.range[0],
                vmax=group.range[1],
                plotnonfinite=False,
            )
            if name == names[0]:
                title_column(axes, column, len(group.columns), 8)
        most = table["video"].value_counts(sort=True).index[:_VIDEOS]
        for axes in row:
            hide_axes(axes, "")
        rank = table["video"].map({video: number for number, video in enumerate(most)}).fillna(-1).astype(int)
        table = table.assign(colour=[(*COLOURS, "#dddddd")[number] for number in rank]).iloc[
            np.argsort(rank, kind="stable")
        ]
        row[-1].scatter(table["x"], table["y"], s=5, c=table["colour"])
        row[-1].set_title("video", fontsize=8)
        first = table.iloc[0]
        if np.isfinite(first["same_video"]):
            text = f"same video nearest:\n{first['same_video']:.0%} (random: {first['same_video_by_chance']:.0%})"
            row[-1].set_xlabel(text, fontsize=7)
        row[0].set_ylabel(name, fontsize=9)
    figure.colorbar(points, ax=grid, label=f"label ({format_range(group)}), {len(table)} clips", shrink=0.8)
    return figure


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the rate of nearest neighbours from the same video, for the last vectors drawn."""
    table = results.map
    if table.empty or not np.isfinite(table["same_video"].iloc[-1]):
        return ""
    row = table.iloc[-1]
    return (
        f"Here the nearest neighbour in {row['features']} is of the same video for {row['same_video']:.0%} of the clips"
        f" (random pairs: {row['same_video_by_chance']:.0%})."
    )
