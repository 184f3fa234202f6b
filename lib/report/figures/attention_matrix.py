"""Attention between the times of two encoders in a clip of medium error, for each head and the mean of the heads."""

import numpy as np
from matplotlib.figure import Figure

from lib.report.figures._base import FigureInputs, make_empty_figure

SECTION, ORDER = "attention", 230
CAPTION = (
    "Attention between the times of two encoders for one clip of medium error: each row (a time of the query) adds up to"
    " 100 % over the columns (times of the key). A diagonal: both encoders attend to the same time. Vertical stripes:"
    " some times get attention from all others."
)


def draw(results: FigureInputs) -> Figure:
    clips = list(results.attention.items())
    if not clips:
        return make_empty_figure("no attention weights: the fusion has none, or analyse.attention_clips is 0")
    name, clip = clips[(len(clips) - 1) // 2]
    looks = {
        pair: weights for pair, weights in clip.looks.items() if len(clip.times[pair[1]]) > 1
    }  # a single time gets all attention
    if not looks:
        return make_empty_figure("no attention over time: every encoder that receives attention has a single time")
    heads = max(map(len, looks.values()))
    figure = Figure(figsize=(1.6 * (heads + 1) + 1, 0.4 + 1.7 * len(looks)), layout="constrained")
    grid = figure.subplots(len(looks), heads + 1, squeeze=False)
    for row, ((query, key), weights) in zip(grid, looks.items(), strict=True):
        times = clip.times[query], clip.times[key]
        weights_by_time = weights.reshape(
            len(weights), len(times[0]), -1, len(times[1]), weights.shape[2] // len(times[1])
        )
        percentages = 100 * weights_by_time.mean(2).sum(-1)  # (heads, query's times, key's times)
        panels = [
            ("mean of the heads", percentages.mean(0)),
            *((f"head {number + 1}", values) for number, values in enumerate(percentages)),
        ]
        extent = (*_ends(times[1]), *_ends(times[0])[::-1])
        for axes, (title, panel) in zip(row, panels, strict=False):
            image = axes.imshow(panel, cmap="viridis", vmin=0, vmax=percentages.max(), aspect="auto", extent=extent)
            axes.set_title(title, fontsize=8)
            axes.set_xlabel(f"{key} (s)", fontsize=8)
        row[0].set_ylabel(f"{query} (s)", fontsize=8)
        figure.colorbar(image, ax=list(row), label="% of the row")
    figure.suptitle(name, fontsize=9)
    return figure


def _ends(times: np.ndarray) -> tuple[float, float]:
    half = (times[-1] - times[0]) / max(len(times) - 1, 1) / 2 or 0.5
    return times[0] - half, times[-1] + half
