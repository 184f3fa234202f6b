"""Draw the sheet of a clip: moments of the clip, and its scores, compared with the training labels and over time."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from lib.report.figures import COLOURS, hide_axes
from lib.report.names import MOST, shorten
from lib.serving.figure import draw_scores
from lib.serving.moments import FULL, Moment, colour_flow
from lib.serving.results import Prediction

_CAPTION = (
    "face: the aligned face; attention: of the other encoders' tokens (dark: none, bright: at least twice uniform), over the"
    " nearest image in time that the encoder has read;\nflow: motion to the next frame (hue: direction)"
)
_FRAME_HEIGHT, _PANEL_HEIGHT = 1.4, 1.6  # inches


def draw_sheet(prediction: Prediction, moments: Sequence[Moment], name: str = "") -> Figure:
    """Return a clip's sheet: moments of the clip, the scores with their intervals, compared with the training labels, and
    the scores over time if the clip has windows. name: in the title, by default the clip's name."""
    groups, over_time = prediction.targets, bool(prediction.windows)
    rows = ["frame", *dict.fromkeys(title for moment in moments for title in moment.panels)] if moments else []
    upper_height = _FRAME_HEIGHT + _PANEL_HEIGHT * (len(rows) - 1) if rows else 0.0
    group_height = max(1.6, *(0.5 + 0.32 * min(len(estimates), MOST) for estimates in groups.values()))
    lower_height = (1 + over_time) * len(groups) * group_height
    figure = Figure(figsize=(11, upper_height + lower_height + 0.5), layout="constrained")
    ratios = [upper_height, lower_height] if rows else [lower_height]
    parts = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    title = (name or prediction.clip.name) + "".join(f"\n{warning}" for warning in prediction.warnings)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    if rows:
        _draw_moments(parts[0], rows, moments)
    axes = parts[-1].subplots((1 + over_time) * len(groups), 1, squeeze=False)[:, 0]
    for index, name in enumerate(groups):
        draw_scores(axes[index], name, groups[name], prediction.labels.get(name))
        if over_time:
            _draw_over_time(axes[len(groups) + index], prediction, name)
    return figure


def _draw_moments(part: SubFigure, rows: Sequence[str], moments: Sequence[Moment]) -> None:
    """Draw a column of images for each moment: the frame and its panels."""
    heights = [_FRAME_HEIGHT if row == "frame" else _PANEL_HEIGHT for row in rows]
    grid = part.subplots(len(rows), len(moments), squeeze=False, height_ratios=heights)
    for column, moment in zip(grid.T, moments, strict=True):
        for axes, row in zip(column, rows, strict=True):
            image = moment.frame if row == "frame" else moment.panels.get(row)
            hide_axes(axes, f"{moment.time:.1f} s" if row == rows[-1] else "")
            if image is not None:
                axes.imshow(image)
    for axes, row in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(row)
    if "flow" in rows:
        wheel = grid[rows.index("flow"), -1].inset_axes((1.02, 0.3, 0.2, 0.4))
        hide_axes(wheel, "")
        wheel.set_title(f"{FULL:.0f} px", fontsize=7)
        wheel.imshow(colour_flow(np.zeros((0, 2, 101, 101)))[-1])
    part.supxlabel(_CAPTION, fontsize=8)


def _draw_over_time(axes: Axes, prediction: Prediction, name: str) -> None:
    windows = [window for window in prediction.windows if window.targets]
    middles = [(window.start + window.end) / 2 for window in windows]
    for index, column in enumerate(list(prediction.targets[name])[:MOST]):
        scores = [window.targets[name][column].score for window in windows]
        axes.plot(middles, scores, marker="o", markersize=3, color=COLOURS[index % len(COLOURS)], label=shorten(column))
    axes.set(xlabel="middle of the window (s)", ylabel="score", xlim=(0, prediction.windows[-1].end))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
