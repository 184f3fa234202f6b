"""Draw the sheet of a clip: moments of the clip, and its scores, compared with the training labels and over time."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from lib.core.targets import TargetGroup
from lib.report.figures import COLOURS, hide_axes
from lib.report.names import MOST, shorten
from lib.serving.moments import FULL, Moment, colour_flow
from lib.serving.output import describe_rank
from lib.serving.predictor import Predictor
from lib.serving.results import Prediction

_CAPTION = (
    "face: the aligned face; attention: of the other encoders' tokens (dark: none, bright: at least twice uniform), over the"
    " nearest image in time that the encoder has read;\nflow: motion to the next frame (hue: direction)"
)
_FRAME_HEIGHT, _PANEL_HEIGHT = 1.4, 1.6  # inches


def draw_sheet(prediction: Prediction, predictor: Predictor, moments: Sequence[Moment]) -> Figure:
    """Return a clip's sheet: moments of the clip, the scores with their intervals, compared with the training labels, and
    the scores over time if the clip has windows."""
    groups, over_time = prediction.targets, bool(prediction.windows)
    rows = ["frame", *dict.fromkeys(title for moment in moments for title in moment.panels)] if moments else []
    upper_height = _FRAME_HEIGHT + _PANEL_HEIGHT * (len(rows) - 1) if rows else 0.0
    group_height = max(1.6, *(0.5 + 0.32 * min(len(estimates), MOST) for estimates in groups.values()))
    lower_height = (1 + over_time) * len(groups) * group_height
    figure = Figure(figsize=(11, upper_height + lower_height + 0.5), layout="constrained")
    ratios = [upper_height, lower_height] if rows else [lower_height]
    parts = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    title = prediction.clip.name + "".join(f"\n{warning}" for warning in prediction.warnings)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    if rows:
        _draw_moments(parts[0], rows, moments)
    axes = parts[-1].subplots((1 + over_time) * len(groups), 1, squeeze=False)[:, 0]
    for index, name in enumerate(groups):
        draw_scores(axes[index], prediction, predictor, name)
        if over_time:
            _draw_over_time(axes[len(groups) + index], prediction, name, predictor.served.targets[name])
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


def draw_scores(axes: Axes, prediction: Prediction, predictor: Predictor, group: str) -> None:
    """Draw a group's scores with their intervals over the distribution of the training labels."""
    estimates, reference = prediction.targets[group], predictor.served.training.references.get(group)
    columns = list(estimates)[:MOST]
    for row, estimate in enumerate(estimates[column] for column in columns):
        if reference is not None and bool(reference.quantiles[:, row].isfinite().all()):
            low, lower, middle, upper, high = reference.quantiles[[5, 25, 50, 75, 95], row].tolist()
            axes.barh(row, high - low, left=low, height=0.6, color="0.92")
            axes.barh(row, upper - lower, left=lower, height=0.6, color="0.82")
            axes.plot([middle, middle], [row - 0.3, row + 0.3], color="0.5", linewidth=1)
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color=COLOURS[0], linewidth=2)
        axes.plot(estimate.score, row, "o", color=COLOURS[0])
        rank = "" if estimate.percentile is None else f", {describe_rank(estimate.percentile)}"
        axes.text(
            1.01, row, f"{estimate.score:.2f}{rank}", transform=axes.get_yaxis_transform(), va="center", fontsize=8
        )
    axes.set_yticks(range(len(columns)), [shorten(column) for column in columns])
    axes.invert_yaxis()
    axes.set(xlim=predictor.served.targets[group].range, xlabel=f"{group}: score{_describe_limit(len(estimates))}")
    handles = [
        Line2D(
            [], [], color=COLOURS[0], marker="o", linewidth=2, label=f"score and {estimates[columns[0]].interval_name}"
        ),
        Line2D([], [], color="0.82", linewidth=6, label="50 % of the training labels"),
        Line2D([], [], color="0.92", linewidth=6, label="90 % of the training labels"),
    ]
    if reference is not None:
        axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=8)


def _describe_limit(count: int) -> str:
    return f" (the first {MOST} of {count} targets)" if count > MOST else ""


def _draw_over_time(axes: Axes, prediction: Prediction, name: str, group: TargetGroup) -> None:
    windows = [window for window in prediction.windows if window.targets]
    middles = [(window.start + window.end) / 2 for window in windows]
    for index, column in enumerate(group.columns[:MOST]):
        scores = [window.targets[name][column].score for window in windows]
        axes.plot(middles, scores, marker="o", markersize=3, color=COLOURS[index % len(COLOURS)], label=shorten(column))
    axes.set(xlabel="middle of the window (s)", ylabel="score", xlim=(0, prediction.windows[-1].end))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
