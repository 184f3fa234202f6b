"""A flow chart of the clips from annotation to use, with the number of lost clips at each step by reason (after CONSORT,
Schulz et al. 2010)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.core.clips import NO_ANNOTATION, NO_FILE, SPLITS
from lib.report.figures._base import COLOURS, FigureInputs, make_figure

SECTION, ORDER = "data", 20
CAPTION = (
    "Number of clips after each step, from all annotated clips to the clips in use. On the right: clips lost at a step,"
    " by reason. If losses affect some people more than others, all later results are biased."
)
_REASONS = 5  # number of reasons that are listed at a step; all others are summed up


def draw(results: FigureInputs) -> Figure:
    steps, of_splits = count_by_step(results.data, results.lost)
    if not any(reasons for *_, reasons in steps):
        steps = [("annotated, verified and with every stream", steps[-1][1], {})]
    width = 10 if any(reasons for *_, reasons in steps) else 5
    figure, axes = make_figure(0.65 * width, 0.3 + 0.55 * (len(steps) + 1))
    axes.set(xlim=(0, width), ylim=(len(steps) + 0.5, -0.5))
    axes.axis("off")
    for row, (name, clips, reasons) in enumerate(steps):
        _box(axes, 2.5, row, f"{name}: {clips}", "#ffffff")
        _arrow(axes, (2.5, row + 0.28), (2.5, row + 0.72))
        if reasons:
            _arrow(axes, (2.5, row - 0.5), (5.0, row - 0.5))
            named = list(reasons.items())[:_REASONS]
            others = sum(reasons.values()) - sum(count for _, count in named)
            named += [("for other reasons", others)] if others else []
            text = "\n".join(f"{count} {reason}" for reason, count in named)
            axes.text(5.1, row - 0.5, text, va="center", fontsize=7, color=COLOURS[1])
    splits = ", ".join(f"{count} {split}" for split, count in of_splits.items())
    _box(axes, 2.5, len(steps), f"used: {splits}", "#dde6f0")
    return figure


def describe(results: FigureInputs) -> str:
    """Return the number of lost clips."""
    used, annotated = sum(count_by_step(results.data, results.lost)[1].values()), results.data["annotated"]
    lost = f"{annotated - used} of {annotated} annotated clips were" if used < annotated else "no clip was"
    return f"Here {lost} lost."


def count_by_step(
    data: Mapping[str, Any], lost: pd.DataFrame
) -> tuple[list[tuple[str, int, dict[str, int]]], dict[str, int]]:
    """Return the steps (name, number of remaining clips, numbers of lost clips by reason), and the remaining clips by split.

    data: contents of metrics/data.json. lost: table of data/lost.csv.
    """
    rejected = {reason: count for reason, count in data["rejected"].items() if reason not in (NO_FILE, NO_ANNOTATION)}
    without_file = {NO_FILE: data["rejected"][NO_FILE]} if NO_FILE in data["rejected"] else {}
    steps: list[tuple[str, int, dict[str, int]]] = [
        ("annotated", data["annotated"], {}),
        ("found", data["annotated"] - sum(without_file.values()), without_file),
        ("verified", data["usable"], rejected),
    ]
    remaining = data["usable"]
    for stream, rows in lost.groupby("step", sort=False):
        reasons = rows[rows["clips"] > 0].groupby("reason")["clips"].sum().sort_values(ascending=False).to_dict()
        remaining -= sum(reasons.values())
        steps.append((f"with {stream}", remaining, reasons))
    of_split = lost.groupby("split")["clips"].sum()
    return steps, {split: data["clips"][split] - int(of_split.get(split, 0)) for split in SPLITS}


def _box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    look = {"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "grey"}
    axes.text(x, y, text, ha="center", va="center", bbox=look)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "grey"})
