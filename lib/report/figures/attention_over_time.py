"""Attention by time: a row for each encoder that receives attention at several times, a column for each clip.

Attention of the other encoders' tokens is the mean over heads and queries, summed over cells. The dotted line is uniform
attention.
"""

from matplotlib.figure import Figure

from lib.report.figures._base import COLOURS, FigureInputs, make_empty_figure, wrap_name

SECTION, ORDER = "attention", 210
CAPTION = (
    "Attention by time in the clip, mean over heads and queries. Columns are clips, from the lowest error to the"
    " highest. Dotted line: uniform attention. Attention shows where information can flow, not what the prediction"
    " depends on."
)


def draw(results: FigureInputs) -> Figure:
    clips = results.attention
    if not any(clip.looks for clip in clips.values()):
        return make_empty_figure("no attention weights: the fusion has none, or analyse.attention_clips is 0")
    # an encoder with a single time is left out: it gets all attention
    keys = list(dict.fromkeys(key for clip in clips.values() for _, key in clip.looks if len(clip.times[key]) > 1))
    if not keys:
        return make_empty_figure("no attention over time: every encoder that receives attention has a single time")
    encoders = list(dict.fromkeys(name for clip in clips.values() for name in clip.times))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(encoders)}
    figure = Figure(figsize=(max(3 * len(clips), 4.5), 0.6 + 2.2 * len(keys)), layout="constrained")
    grid = figure.subplots(len(keys), len(clips), sharex="col", sharey="row", squeeze=False)
    for row, key in zip(grid, keys, strict=True):
        for axes, clip in zip(row, clips.values(), strict=True):
            for (query, other_key), weights in clip.looks.items():
                if other_key == key:
                    times = clip.times[key]
                    percentages = 100 * weights.mean((0, 1)).reshape(len(times), -1).sum(1)
                    label = f"tokens of {query}"
                    axes.plot(times, percentages, marker="o", markersize=3, color=colours[query], label=label)
                    axes.axhline(100 / len(times), color="grey", linestyle=":", linewidth=0.8)
        row[0].set_ylim(0, 1.1 * max(axes.get_ylim()[1] for axes in row))
        row[0].set_ylabel(f"attention to {key}\n(% of its total)")
    for top, bottom, name in zip(grid[0], grid[-1], clips, strict=True):
        top.set_title(wrap_name(name, 26), fontsize=9)
        bottom.set_xlabel("time in the clip (s)")
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        title="attention from:",
    )
    return figure
