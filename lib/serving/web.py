"""Show predictions in a web page: a table of clips, then each clip's scores, scores over time, sheet and video."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.ticker import MaxNLocator

from lib.core.targets import TargetGroup
from lib.model.checkpoint import TrainedModel
from lib.report.figures import COLOURS
from lib.report.names import MOST
from lib.serving.output import column_names
from lib.serving.results import Prediction
from lib.serving.scores import Estimate, Window, describe_rank

_TEMPLATE = Path(__file__).with_name("web.html")
_LABEL = 8.0  # per cent of the height of the curve: distance of two labels
_DASHES = "none", "7 3", "2 3"  # after each of them the colours begin again


@dataclass(frozen=True)
class DisplayedClip:
    """A prediction with the addresses of its sheet, video and poster, where they exist."""

    prediction: Prediction
    warnings: Sequence[str]
    sheet: str | None = None
    video: str | None = None
    poster: str | None = None


def render(clips: Sequence[DisplayedClip], model: TrainedModel) -> str:
    """Return predictions as HTML; from two clips on a table of clips and targets comes first."""
    names = column_names(model.targets)
    template = Environment(autoescape=True).from_string(_TEMPLATE.read_text())
    return template.render(
        columns=list(names.values()),
        rows=[_summarise(clip.prediction, list(names)) for clip in clips] if len(clips) > 1 else [],
        clips=[_describe_clip(clip, model) for clip in clips],
    )


def describe(estimate: Estimate) -> str:
    """Return a score with its interval and its rank among the training clips."""
    interval = f" ({describe_interval(estimate)})" if estimate.low is not None else ""
    rank = "" if estimate.percentile is None else f", {describe_rank(estimate.percentile)}"
    return f"{estimate.score:.2f}{interval}{rank}"


def describe_interval(estimate: Estimate) -> str:
    """Return the ends of an interval, or an empty string."""
    return "" if estimate.low is None else f"{estimate.low:.2f} to {estimate.high:.2f}"


def _summarise(prediction: Prediction, keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return a row of the table: a cell for each target, none for a rejected clip."""
    estimates = [prediction.targets[group][column] for group, column in keys] if prediction.targets else []
    cells = [(f"{estimate.score:.2f}", describe_interval(estimate)) for estimate in estimates]
    number = f", person {prediction.person.number}" if prediction.person else ""
    return {"name": f"{prediction.clip.name}{number}", "cells": cells}


def _describe_clip(clip: DisplayedClip, model: TrainedModel) -> dict[str, Any]:
    prediction = clip.prediction
    return {
        "name": prediction.describe(prediction.clip.name),
        "rejected": prediction.rejected.replace(str(prediction.clip), prediction.clip.name),
        "warnings": clip.warnings,
        "sheet": clip.sheet,
        "video": clip.video,
        "poster": clip.poster,
        "groups": [_describe_group(prediction, model, name) for name in prediction.targets],
    }


def _describe_group(prediction: Prediction, model: TrainedModel, name: str) -> dict[str, Any]:
    """Return the targets of a group, whose places are per cent of its range, and its scores over time."""
    group, reference = model.targets[name], model.training.references.get(name)
    targets = []
    for index, (column, estimate) in enumerate(prediction.targets[name].items()):
        labels = None if reference is None else reference.quantiles[[5, 25, 50, 75, 95], index]
        label_places = None
        if labels is not None and bool(labels.isfinite().all()):
            label_places = [_place(group, value) for value in labels.tolist()]
        interval = (estimate.low, estimate.high)
        targets.append(
            {
                "name": column,
                "text": describe(estimate),
                "at": _place(group, estimate.score),
                "interval": None if None in interval else [_place(group, float(end or 0)) for end in interval],
                "labels": label_places,
            }
        )
    windows = [window for window in prediction.windows if window.targets]
    curve = _draw_curve(prediction.windows, name, group.columns) if windows else None
    name_of_interval = next(iter(prediction.targets[name].values())).interval_name
    return {"range": group.range, "targets": targets, "curve": curve, "interval": name_of_interval}


def _place(group: TargetGroup, value: float) -> float:
    return round(100 * min(max(group.to_unit(value), 0.0), 1.0), 2)


def _draw_curve(windows: Sequence[Window], group: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return lines, ticks and labels in per cent of a curve's width, from the left, and of its height, from the top.

    A line ends before a window that can't be used. More than MOST targets are left out.
    """
    drawn_columns, end = columns[:MOST], windows[-1].end
    scores = [window.targets[group][column].score for window in windows if window.targets for column in drawn_columns]
    ticks = MaxNLocator(4, min_n_ticks=2).tick_values(min(scores), max(scores))
    low, high = float(ticks[0]), float(ticks[-1])

    def down(score: float) -> float:
        return round(100 * (high - score) / (high - low), 2)

    lines: list[dict[str, Any]] = []
    for index, column in enumerate(drawn_columns):
        runs: list[list[tuple[float, float]]] = [[]]
        for window in windows:
            if window.targets:
                middle = round(50 * (window.start + window.end) / end, 2)
                runs[-1].append((middle, down(window.targets[group][column].score)))
            elif runs[-1]:
                runs.append([])
        lines.append(
            {
                "name": column,
                "colour": COLOURS[index % len(COLOURS)],
                "dashes": _DASHES[index // len(COLOURS) % len(_DASHES)],
                "runs": [" ".join(f"{x},{y}" for x, y in run) for run in runs if run],
                "dots": [dot for run in runs for dot in run],
            }
        )
    for line, label in zip(lines, spread([line["dots"][-1][1] for line in lines], _LABEL), strict=True):
        line["label"] = label
    seconds = [float(tick) for tick in MaxNLocator(5).tick_values(0, end) if 0 <= tick <= end]
    return {
        "lines": lines,
        "scores": [(down(float(tick)), f"{tick:.2f}") for tick in ticks],
        "seconds": [(round(100 * tick / end, 2), f"{tick:g}") for tick in seconds],
        "hidden": len(columns) - len(drawn_columns),
    }


def spread(places: Sequence[float], distance: float) -> list[float]:
    """Return places from 0 to 100 moved as far apart as `distance`, in the same order."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda index: places[index])
    for before, index in zip(order, order[1:], strict=False):
        moved[index] = max(moved[index], moved[before] + distance)
    limit = 100.0
    for index in reversed(order):
        moved[index] = round(min(moved[index], limit), 2)
        limit = moved[index] - distance
    return moved


STEPS: Mapping[str, str] = {
    "frames": "decoding",
    "faces": "finding faces",
    "flow": "measuring optical flow",
    "audio": "decoding audio",
    "network": "running the network",
}
"""Steps of a prediction in words; others are named as their streams."""


def count_steps(steps: int, report: Callable[[float, str], None]) -> Callable[[str], None]:
    """Return a function that reports the finished fraction of `steps` and, in words, the step that begins."""
    count: Iterator[int] = iter(range(steps))

    def begin(step: str) -> None:
        report(next(count, steps) / steps, STEPS.get(step, f"preparing {step.replace('_', ' ')}"))

    return begin
