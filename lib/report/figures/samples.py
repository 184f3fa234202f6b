"""Example clips, one per row: images, log-mel spectrogram and MFCC of the network's streams, labels and predictions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, FigureInputs, hide_axes, make_empty_figure
from lib.report.figures._read import Sample, SampleArray
from lib.report.words import format_range

_OCTAVES = tuple(125 * 2**octave for octave in range(1, 9))  # Hz
_LOUDNESS = 80  # dB below the loudest value: the range of the colours
_RANKS = {2: ["lowest", "highest"], 3: ["lowest", "median", "highest"]}

SECTION, ORDER = "samples", 140
CAPTION = (
    "The model's inputs for the clips with the lowest, median and highest error, next to their labels and predictions."
    " Check that faces are complete and upright. In flow, hue is direction and saturation is speed, as on the colour wheel"
    " (Baker et al. 2011)."
)


def draw(results: FigureInputs) -> Figure:
    clips, predictions, targets = results.samples, results.predictions, results.targets
    pictures = list(dict.fromkeys(name for clip in clips.values() for name in clip.pictures))
    sound = list(dict.fromkeys(name for clip in clips.values() for name in clip.sound))
    if not pictures and not sound:
        return make_empty_figure("no images and no audio: the network reads only other streams")
    widths = [1.9] * len(pictures) + [3.0] * len(sound) + [2.6] * len(targets)
    height = max(2.2, 0.6 + 0.14 * max(len(group.columns) for group in targets.values()))
    figure = Figure(figsize=(sum(widths), height * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), len(widths), width_ratios=widths, squeeze=False)
    errors = (predictions["predicted"] - predictions["actual"]).abs()
    first = next(iter(targets))
    ranks = _RANKS.get(len(clips), [""] * len(clips))
    for row, (name, clip), rank in zip(grid, clips.items(), ranks, strict=True):
        rows = predictions[predictions["clip"] == name]
        error = errors[rows.index][rows["targets"] == first].mean()
        row[0].set_title(f"{name}: {rank} error, {error:.3f}", loc="left").set_in_layout(False)  # wider than its panel
        row[-1].set_title(" ")  # keeps its place
        panels = iter(row)
        for stream in pictures:
            _picture(next(panels), stream, clip.pictures.get(stream))
        for array in sound:
            arrays = [other.sound[array] for other in clips.values() if array in other.sound]
            _sound(figure, next(panels), array, clip, arrays)
        for group_name, group in targets.items():
            _labels(next(panels), rows[rows["targets"] == group_name], group_name, group)
    handles, title = grid[0, -1].get_legend_handles_labels(), f"error: mean absolute error of {first}"
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, title=title)
    return figure


def _picture(axes: Axes, stream: str, images: SampleArray | None) -> None:
    """Draw images side by side in rows, with their times."""
    if images is None:
        hide_axes(axes, f"no {stream}")
        return
    pictures, times, read, points, full = images
    per_row = int(np.ceil(np.sqrt(len(pictures))))
    empty = np.full_like(pictures, 255, shape=(-len(pictures) % per_row, *pictures.shape[1:]))
    _, height, width, _ = pictures.shape
    tiled = np.concatenate([pictures, empty]).reshape(-1, per_row, height, width, 3).swapaxes(1, 2)
    axes.imshow(tiled.reshape(-1, per_row * width, 3))
    for index, image_points in enumerate([] if points is None else points):
        x, top = index % per_row * width, index // per_row * height
        axes.scatter(image_points[:, 0] + x, image_points[:, 1] + top, s=2, color=COLOURS[3], linewidths=0)
    axes.set_anchor("NW")
    wheel = "" if full is None else f"\nwheel: direction, to {full:.1f} px a step"
    texts = [f"{time:.1f}" for time in times]
    lines = [", ".join(texts[start : start + per_row]) for start in range(0, len(texts), per_row)]
    separator = ",\n"
    hide_axes(axes, f"{stream}{_note(read)} at\n{separator.join(lines)} s{wheel}")


def _note(read: bool) -> str:
    return "" if read else "\n(not read by the model)"


def _sound(figure: Figure, axes: Axes, array: str, clip: Sample, arrays: Sequence[SampleArray]) -> None:
    """Draw a clip's log_mel or mfcc over time. arrays: those of all clips in the figure, which share a scale."""
    if array not in clip.sound:
        hide_axes(axes, "no audio")
        return
    values, times, read, *_ = clip.sound[array]
    together = np.concatenate([steps.values for steps in arrays])
    if array == "log_mel":
        high = together.max()
        low, colours, extend, label = high - _LOUDNESS, "magma", "min", "log-mel power (dB)"
        bands = clip.frequencies
        octaves = [octave for octave in _OCTAVES if bands[0] <= octave <= bands[-1]]
        axes.set_yticks(np.interp(octaves, bands, np.arange(len(bands))), octaves)
        axes.set_ylabel("frequency (Hz)")
    else:  # without coefficient 0, the level, whose large values would dominate the colour scale
        high = max(1e-6, np.percentile(np.abs(together[:, min(1, together.shape[1] - 1) :]), 99))
        low, colours, extend, label = -high, "RdBu_r", "both", "value"
        axes.set_ylabel("MFCC")
    half = (times[-1] - times[0]) / max(len(times) - 1, 1) / 2 or 0.5
    extent = (times[0] - half, times[-1] + half, -0.5, values.shape[1] - 0.5)
    image = axes.imshow(values.T, colours, aspect="auto", origin="lower", vmin=low, vmax=high, extent=extent)
    begin, end = min(steps.times[0] for steps in arrays), max(steps.times[-1] for steps in arrays)
    axes.set(xlim=(begin - half, end + half), xlabel=f"time (s){_note(read)}")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    figure.colorbar(image, ax=axes, label=label, extend=extend)


def _labels(axes: Axes, rows: pd.DataFrame, name: str, group: TargetGroup) -> None:
    """Draw the labels and predictions of a target group for a clip."""
    rows = rows.set_index("target").loc[group.columns]
    places = np.arange(len(rows))
    axes.hlines(places, rows["actual"], rows["predicted"], color="lightgrey", zorder=0)
    for column, marker, colour in (("actual", "o", COLOURS[0]), ("predicted", "D", COLOURS[1])):
        axes.plot(rows[column], places, marker, color=colour, markersize=4, clip_on=False, label=column)
    axes.set_yticks(places, group.columns, fontsize=8)
    axes.set_xlim(min(group.range[0], rows["predicted"].min()), max(group.range[1], rows["predicted"].max()))
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"{name} ({format_range(group)})")
