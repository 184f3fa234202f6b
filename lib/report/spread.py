"""Spread, regression to the mean and accuracy (lib.scoring.seeds.score_over_seeds) as Markdown, LaTeX and figure."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report import ceilings, comparison, words
from lib.report.figures import COLOURS
from lib.scoring.ceilings import CEILING

_MEAN = "mean_predictor"
_EXPLAINED = (
    "SD ratio: standard deviation of the predictions over that of the labels. Calibration slope: slope of the"
    " regression of labels on predictions. Both are best at 1. Regression to the mean: 1 minus the slope of the"
    " regression of predictions on labels; best at 0; 1 − R² for a calibrated predictor."
)
_A_ROW = 3  # number of panels per row
_NAMED = 7  # titles name up to this number of targets, else only their number
_RATIOS = {"std_ratio": ",\npredicted / actual", "calibration_slope": ",\nactual on predicted"}


class ScoreFormat(NamedTuple):
    """The format of a score: its label, its number of digits, and its ideal value, or None if higher is better."""

    label: str
    digits: int
    ideal: float | None


def list_scores(group: TargetGroup) -> dict[str, ScoreFormat]:
    """Return the scores of the table and the figure, in their order."""
    ideal = {"std_ratio": 1.0, "calibration_slope": 1.0, "regression_to_mean": 0.0}
    formats = {score: ScoreFormat(words.CALIBRATION[score], 3, value) for score, value in ideal.items()}
    others = words.list_headline_scores(group).items()
    return formats | {score: ScoreFormat(label, digits, None) for score, (label, digits) in others}


def format_markdown(table: pd.DataFrame, which: str, group: TargetGroup) -> str:
    """Return the means over targets; `which`: name of the clips."""
    lines = [f"{_mean(group)} on {which}; {_about(table)}\n"]
    lines.append("| | " + " | ".join(score_format.label for score_format in list_scores(group).values()) + " |")
    lines.append("|---|" + "---|" * len(list_scores(group)))
    for name, cells in _cells(table, group).items():
        lines.append(f"| {name} | " + " | ".join(" ".join(filter(None, cell)) for cell in cells) + " |")
    lines.append(f"\n{_EXPLAINED}")
    return "\n".join(lines)


def write(table: pd.DataFrame, which: str, group: TargetGroup, out: Path) -> None:
    """Write out.csv (each target too), out.tex (booktabs), out.png and out.pdf."""
    labels = [
        _two_lines(score_format.label) if score in words.CALIBRATION else score_format.label
        for score, score_format in list_scores(group).items()
    ]
    rows = [row for name, cells in _cells(table, group).items() for row in ((name, 0, cells), ("", 1, cells))]
    cells = pd.DataFrame(
        [[cell[line] for cell in texts] for _, line, texts in rows], [name for name, _, _ in rows], labels
    )
    caption = f"{_mean(group)} on {which}; {_about(table)}. {_EXPLAINED}"
    rows_of_scores = table[table["score"].isin(list_scores(group))]
    comparison.save(rows_of_scores, cells, caption, draw_panels(table, which, group), out)


def draw_panels(table: pd.DataFrame, which: str, group: TargetGroup) -> Figure:
    """Return a figure with a panel for each score: each predictor's mean over targets with its 95 % interval; the training
    mean's value is a line."""
    names = [name for name in dict.fromkeys(table["predictor"]) if name != CEILING]
    seeds = table["seeds"].max()
    figure = Figure(figsize=(8.5, 1.9 + 0.46 * len(names)), layout="constrained")
    means = table[table["target"] == "mean"].set_index(["score", "predictor"])
    grid = figure.subplots(-(-len(list_scores(group)) // _A_ROW), _A_ROW, sharey=True).ravel()
    for axes, (score, score_format) in zip(grid, list_scores(group).items(), strict=True):
        rows = means.loc[score].loc[names]
        for number, (name, row) in enumerate(rows.iterrows()):
            colour = COLOURS[1] if name == _MEAN else COLOURS[0]
            if np.isnan(row["value"]):
                axes.text(0.97, number, "not defined", transform=axes.get_yaxis_transform(), ha="right", va="center")
                continue
            reach = [[max(row["value"] - row["low"], 0)], [max(row["high"] - row["value"], 0)]]  # 0: rounding
            axes.errorbar(row["value"], number, xerr=reach, fmt="o", markersize=4, color=colour, capsize=2)
        axes.axvline(rows.loc[_MEAN, "value"], color=COLOURS[1], linewidth=0.8, linestyle=":", label="training mean")
        if score_format.ideal is not None:
            axes.axvline(score_format.ideal, color="grey", linewidth=0.8, label="ideal")
        if (score, CEILING) in means.index:
            ceilings.draw(axes, means.loc[(score, CEILING), "value"])
        axes.set(xlabel=score_format.label + _RATIOS.get(score, ""), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), map(words.name_predictor, names))
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False)
    figure.suptitle(f"{_mean(group)}\n{which}; {comparison.describe_marks(seeds)}", fontsize=9, x=0.01, ha="left")
    return figure


def _cells(table: pd.DataFrame, group: TargetGroup) -> dict[str, list[tuple[str, str]]]:
    """Return for each predictor's name and each score the mean over targets and its interval (or ''), as text."""
    means = table[table["target"] == "mean"].set_index(["predictor", "score"])
    return {
        words.name_predictor(name): [
            words.format_over_seeds(means.loc[(name, score)], score_format.digits)
            if (name, score) in means.index
            else ("–", "")
            for score, score_format in list_scores(group).items()
        ]
        for name in dict.fromkeys(table["predictor"])
    }


def _two_lines(label: str) -> str:
    return r"\shortstack{" + label.replace(" ", r"\\", 1) + "}"


def _mean(group: TargetGroup) -> str:
    columns = group.columns
    return f"Mean of {', '.join(columns) if len(columns) <= _NAMED else f'{len(columns)} targets'}"


def _about(table: pd.DataFrame) -> str:
    """Return an explanation of the numbers after a value in the table."""
    several = table["seeds"].max() > 1
    return ("mean ± standard deviation over seeds, " if several else "") + "95 % interval over videos"
