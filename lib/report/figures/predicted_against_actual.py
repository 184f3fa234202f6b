"""Scatter plots of predictions against labels, a panel for each target, with different marks for seen and unseen videos."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report import ceilings
from lib.report.figures._base import (
    FigureInputs,
    draw_identity_line,
    format_title,
    label_left,
    legend_below,
    make_panels,
    scatter_clips,
)
from lib.report.words import format_range

SECTION, ORDER = "results", 60
CAPTION = (
    "Predictions against labels; each mark is a clip. On the line both are equal. A flat cloud indicates regression to"
    " the mean. The model may recognise videos seen in training: judge it by the unseen videos."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    labelled = results.predictions.dropna(subset="actual")
    clips = labelled.groupby("video_in_training")["clip"].nunique()
    figure, panels = make_panels(group)
    for target, axes in panels.items():
        rows = labelled[labelled["target"] == target]
        scatter_clips(axes, rows, rows["actual"], rows["predicted"], clips)
        draw_identity_line(axes, labelled, group, format_title(target, rows, labelled), "label")
        axes.text(0.04, 0.96, _format_scores(results, target), transform=axes.transAxes, va="top", fontsize=8)
    label_left(panels, f"prediction ({format_range(group)})")
    legend_below(figure, panels)
    return figure


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return a sentence with the highest and the lowest correlation of a target."""
    values = {target: _find_score(results, "pearson", target) for target in group.columns}
    defined = {target: value for target, value in values.items() if np.isfinite(value)}
    if len(defined) < 2:
        return ""
    best, worst = max(defined, key=defined.__getitem__), min(defined, key=defined.__getitem__)
    text = f"Here r is highest for {best} ({defined[best]:.2f}) and lowest for {worst} ({defined[worst]:.2f})."
    return text.replace("-", "−")


def _format_scores(results: FigureInputs, target: str) -> str:
    """Return R² and Pearson's r with their ceilings as text, without undefined values."""
    values = {label: _find_score(results, score, target) for label, score in (("R²", "r2"), ("r", "pearson"))}
    bounds = {label: ceilings.find(results.scores, score, target) for label, score in (("R²", "r2"), ("r", "pearson"))}
    lines = (
        f"{label} = {value:.2f}" + (f" (ceiling {bounds[label]:.2f})" if np.isfinite(bounds[label]) else "")
        for label, value in values.items()
        if np.isfinite(value)
    )
    return "\n".join(lines).replace("-", "−")


def _find_score(results: FigureInputs, score: str, target: str) -> float:
    table = results.scores
    if table.empty:
        return float("nan")
    chosen = (table["subset"] == "all") & (table["predictor"] == "model") & (table["score"] == score)
    return float(table.loc[chosen & (table["target"] == target), "value"].iloc[0])
