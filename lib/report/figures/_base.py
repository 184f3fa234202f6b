"""Helpers that figures share: the style, the results, and panels."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from lib.core.clips import SPLITS
from lib.core.targets import TargetGroup, Targets
from lib.report import ceilings
from lib.report.figures._read import ClipAttention, ImportanceMaps, MeanAttention, Sample
from lib.report.words import format_range

mpl.rcParams |= {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,
    "svg.hashsalt": "0",
    "text.parse_math": False,  # names of targets may contain dollar signs
    "image.composite_image": False,  # composited, translucent images have their alpha applied twice in PDFs
}

COLOURS = ("#4477aa", "#c73c51", "#b57c00", "#660041", "#40068b", "#a162ff")
"""Colours with a contrast of at least 3:1 on white, and at least 30 apart in CIELAB, also for colour-blind readers."""

SPLIT_STYLES = dict(zip(SPLITS, zip(COLOURS, "osD", strict=False), strict=False))
"""Colour and marker of each split."""
PANELS_PER_ROW = 6
_EMPTY = "empty"


_NOWHERE = MeanAttention(0, {})
_NOTHING = ImportanceMaps({}, {}, {}, {})


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame({"targets": []})


@dataclass(frozen=True)
class FigureInputs:
    """The inputs of all figures.

    They are the tables plots/history.csv, data/clips.csv, data/predictions.csv, data/scores.csv, data/split_scores.csv,
    data/corpus_scores.csv,
    data/lost.csv, data/controls.csv, data/deletion.csv, data/robustness.csv, data/probes.csv, data/lens.csv,
    data/feature_importance.csv, data/partial_dependence.csv, data/cue_scores.csv, data/layer_weights.csv and data/map.csv,
    the contents of metrics/data.json, the results of the functions in `_read`, and the target groups.
    """

    TABLES: ClassVar = (
        "predictions", "scores", "split_scores", "corpus_scores", "controls", "deletion", "robustness", "probes", "lens",
        "feature_importance", "partial_dependence", "cue_scores",
    )  # fmt: skip
    """The tables that have rows of each target group."""

    history: pd.DataFrame = field(default_factory=_no_rows)
    clips: pd.DataFrame = field(default_factory=_no_rows)
    predictions: pd.DataFrame = field(default_factory=_no_rows)
    scores: pd.DataFrame = field(default_factory=_no_rows)
    split_scores: pd.DataFrame = field(default_factory=_no_rows)
    corpus_scores: pd.DataFrame = field(default_factory=_no_rows)
    attention: Mapping[str, ClipAttention] = field(default_factory=dict)
    samples: Mapping[str, Sample] = field(default_factory=dict)
    augmented: Mapping[str, Sample] = field(default_factory=dict)
    targets: Targets = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    lost: pd.DataFrame = field(default_factory=_no_rows)
    controls: pd.DataFrame = field(default_factory=_no_rows)
    mean_attention: MeanAttention = _NOWHERE
    importance: ImportanceMaps = _NOTHING
    deletion: pd.DataFrame = field(default_factory=_no_rows)
    robustness: pd.DataFrame = field(default_factory=_no_rows)
    probes: pd.DataFrame = field(default_factory=_no_rows)
    lens: pd.DataFrame = field(default_factory=_no_rows)
    feature_importance: pd.DataFrame = field(default_factory=_no_rows)
    partial_dependence: pd.DataFrame = field(default_factory=_no_rows)
    cue_scores: pd.DataFrame = field(default_factory=_no_rows)
    layer_weights: pd.DataFrame = field(default_factory=_no_rows)
    map: pd.DataFrame = field(default_factory=_no_rows)

    def select_targets(self, targets: str) -> "FigureInputs":
        """Return the results of one target group, or all results for ""."""
        if not targets:
            return self
        tables = {name: getattr(self, name) for name in self.TABLES}
        return replace(
            self,
            **{name: table[table["targets"] == targets] for name, table in tables.items()},
            importance=self.importance.select_targets(targets),
        )


VIDEO_STYLES = ((True, COLOURS[0], "o", "video seen in training"), (False, COLOURS[1], "^", "unseen video"))
"""Two kinds of videos: whether the video was seen in training, colour, marker, label."""


def make_grid(
    count: int, across: int, measure: Callable[[int, int], tuple[float, float]], share: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels, up to `across` in a row, and the panels.

    measure: takes the numbers of rows and columns and returns width and height of the figure in inches. share: whether the
    panels have the same axes.
    """
    columns = min(across, count)
    rows = -(-count // columns)
    figure = Figure(figsize=measure(rows, columns), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, [*panels[:count]]


def make_panels(group: TargetGroup) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each target of a group, and the panels by target."""
    figure, panels = make_grid(
        len(group.columns),
        PANELS_PER_ROW,
        lambda rows, columns: (2.4 * columns, (2.9 if rows == 1 else 3.2) * rows),
    )
    if len(panels) > PANELS_PER_ROW:  # "compressed" avoids large gaps between rows of squares
        figure.set_layout_engine("compressed")
    return figure, dict(zip(group.columns, panels, strict=True))


def label_left(panels: Mapping[str, Axes], label: str) -> None:
    for axes in list(panels.values())[::PANELS_PER_ROW]:
        axes.set_ylabel(label)


def legend_below(figure: Figure, panels: Mapping[str, Axes]) -> None:
    handles = {
        label: handle
        for axes in panels.values()
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = min(len(handles), len(panels))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, markerscale=1.5
    )


def wrap_name(name: str, width: int = 20) -> str:
    """Return a name in lines of up to `width` characters, for the title of a panel."""
    return textwrap.fill(name, width)


def title_column(axes: Axes, name: str, columns: int, size: int) -> None:
    """Write a target's name above the first panel of a column, upright if there are many columns."""
    axes.set_title(wrap_name(name, 18), fontsize=size, rotation=90 if columns > PANELS_PER_ROW else 0)


def format_title(target: str, rows: pd.DataFrame, labelled: pd.DataFrame) -> str:
    clips, target = labelled["clip"].nunique(), wrap_name(target)
    return target if len(rows) == clips else f"{target}\n({len(rows)} of {clips} known)"


def draw_identity_line(axes: Axes, predictions: pd.DataFrame, group: TargetGroup, title: str, label: str) -> None:
    """Set the title and limits of a target's panel, and draw the line on which prediction and label are equal.

    The limits are the target's range, extended to all predictions.
    """
    low = min(group.range[0], predictions["predicted"].min())
    high = max(group.range[1], predictions["predicted"].max())
    axes.plot([low, high], [low, high], color="grey", linewidth=0.8)
    axes.set_title(title)
    axes.tick_params(labelbottom=True)  # the last row may be shorter than the others
    axes.set(xlabel=f"{label} ({format_range(group)})", xlim=(low, high), ylim=(low, high), aspect="equal")


def scatter_clips(axes: Axes, rows: pd.DataFrame, x: pd.Series, y: pd.Series, clips: pd.Series | None = None) -> None:
    """Draw a mark for each of `rows` (predictions of one target), with different marks for seen and unseen videos.

    clips: numbers of clips for the legend, by whether the video is seen; None leaves them out.
    """
    for is_seen, colour, marker, label in VIDEO_STYLES:
        part = rows["video_in_training"] == is_seen
        if not part.any():
            continue
        label = label if clips is None else f"{label} ({clips.get(is_seen, 0)})"
        dots = axes.scatter(x[part], y[part], s=9, color=colour, marker=marker, alpha=0.7, linewidths=0, label=label)
        dots.set(clip_on=False, zorder=3)


def draw_intervals(
    axes: Axes,
    positions: np.ndarray,
    rows: pd.DataFrame,
    colour: str,
    value: str = "value",
    marker: str = "o",
    label: str | None = None,
    vertical: bool = False,
) -> None:
    """Draw the column `value` of `rows` as points at `positions`, with their intervals, low to high, as lines."""
    points = (positions, rows[value]) if vertical else (rows[value], positions)
    axes.plot(*points, marker, markersize=4, color=colour, label=label)
    lines = axes.vlines if vertical else axes.hlines
    lines(positions, rows["low"], rows["high"], color=colour)


def draw_forest(
    table: pd.DataFrame,
    column: str,
    value: str,
    group: TargetGroup,
    label: str,
    bounds: Mapping[str, float] = MappingProxyType({}),
) -> Figure:
    """Return a figure with a panel for the mean and for each target.

    A panel has a row for each name in the table's column `column`, with the column `value` and its interval, low to high.
    bounds: ceilings by target, for those that have one.
    """
    names, targets = list(dict.fromkeys(table[column])), ["mean", *group.columns]
    figure, panels = make_grid(
        len(targets),
        PANELS_PER_ROW,
        lambda rows, columns: (1.9 + 1.5 * columns, rows * (0.7 + 0.26 * len(names))),
    )
    for axes, target in zip(panels, targets, strict=True):
        rows_of_target = table[table["target"] == target].set_index(column).reindex(names)
        positions = np.arange(len(names))
        draw_intervals(axes, positions, rows_of_target, COLOURS[0], value)
        axes.axvline(0, color="grey", linewidth=0.8)
        ceilings.draw(axes, bounds.get(target, np.nan))
        axes.set_title(wrap_name(target, 18), fontsize=9)
        axes.tick_params(labelbottom=True)
        axes.locator_params(axis="x", nbins=3)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(label, fontsize=9)
    return figure


def make_empty_figure(reason: str) -> Figure:
    """Return a figure that contains only the reason why there is nothing to draw."""
    figure = Figure(figsize=(4.5, 1.2))
    figure.set_label(_EMPTY)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.text(0.5, 0.5, reason[0].upper() + reason[1:] + ".", ha="center", va="center")
    return figure


def is_empty(figure: Figure) -> bool:
    """Return whether a figure was created by `make_empty_figure`."""
    return bool(figure.get_label() == _EMPTY)


def make_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def hide_axes(axes: Axes, label: str) -> None:
    axes.set(xticks=[], yticks=[], xlabel=label)
    axes.spines[:].set_visible(False)


def draw_overlay(axes: Axes, picture: np.ndarray | None, values: np.ndarray, highest: float | None = None) -> AxesImage:
    """Draw values (h, w), interpolated, over an image (H, W, 3), with lines between the cells.

    The colours range from 0 to `highest`. If it is None, values are attention in multiples of uniform, and diverging colours
    range from 0 to 2 with their centre at 1.
    """
    colours, end = ("RdBu_r", 2.0) if highest is None else ("magma", highest)
    rows, columns = values.shape
    height, width = values.shape if picture is None else picture.shape[:2]
    if picture is not None:
        axes.imshow(picture.mean(-1), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    axes.hlines(np.arange(1, rows) * height / rows, 0, width, color="white", linewidth=0.3)
    axes.vlines(np.arange(1, columns) * width / columns, 0, height, color="white", linewidth=0.3)
    return axes.imshow(
        values, cmap=colours, vmin=0, vmax=end, alpha=1 if picture is None else 0.5, extent=(0, width, height, 0),
        interpolation="bilinear",
    )  # fmt: skip
