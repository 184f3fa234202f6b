"""Accuracy against gaps between two groups of persons (lib.scoring.fairness), as Markdown, LaTeX and figure."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import MEAN, TargetGroup
from lib.report import comparison, words
from lib.report.figures import COLOURS
from lib.report.names import MOST, escape_markdown, shorten

GAPS = {
    "error_difference": "gap of the signed error",
    "accuracy_difference": "gap of the accuracy",
    "coverage_difference": "gap of the coverage",
}
_MARKERS = "osD^v"
_A_ROW = 3


def explain(pair: tuple[str, str], level: float) -> str:
    """Return the caption's explanation of gaps, signs and intervals."""
    return (
        f"Every gap is {pair[0]} minus {pair[1]}, the groups with the highest and the lowest mean label in training."
        " Signed error: prediction − label. The difference of labels is a difference between raters' impressions of the two"
        " groups, not an error of a model; with equal predictions for both groups, the gap of the signed error is this"
        " difference with the opposite sign. Coverage: fraction of labels within the prediction interval, which should be"
        f" {level:.0%} in both groups. 95 % intervals over videos"
    )


def list_measures(target_group: TargetGroup) -> dict[str, str]:
    """Return the measures of the table with their labels."""
    first = {
        "accuracy": f"accuracy ({words.name_accuracy(target_group)})",
        "prediction_difference": "gap of the predictions",
    }
    return first | GAPS | {"coverage": "coverage"}


def describe_labels(table: pd.DataFrame, pair: tuple[str, str], target: str = MEAN) -> str:
    """Return the difference of the labels with its sign and interval."""
    row = next(table[(table["measure"] == "label_difference") & (table["target"] == target)].itertuples())
    return f"labels, {pair[0]} minus {pair[1]}: {_signed(row.value)} [{_signed(row.low)}, {_signed(row.high)}]"


def format_markdown(
    table: pd.DataFrame, which: str, pair: tuple[str, str], target_group: TargetGroup, level: float
) -> str:
    """Return a row for each setting with the means over targets; `which`: name of the clips."""
    measures = list_measures(target_group)
    lines = [
        f"Mean of {', '.join(target_group.columns)} on {which}; {escape_markdown(describe_labels(table, pair))}\n",
        f"| train.fairness | {' | '.join(measures.values())} |",
        "|---|" + "---|" * len(measures),
    ]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in _cells(table, target_group).items()]
    lines.append(f"\nChange compared with {table['setting'].iloc[0]}, paired over videos\n")
    lines += [f"| train.fairness | {' | '.join(measures.values())} |", "|---|" + "---|" * len(measures)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in [*_changes(table, target_group).items()][1:]]
    lines.append(
        "\n| target | difference of labels | " + " | ".join(f"signed error, {name}" for name in _names(table)) + " |"
    )
    lines.append("|---|---|" + "---|" * len(_names(table)))
    for target in target_group.columns:
        label = describe_labels(table, pair, target).partition(": ")[2]
        rows = table[(table["measure"] == "error_difference") & (table["target"] == target)]
        lines.append(f"| {escape_markdown(target)} | {label} | {' | '.join(_cell(row) for row in rows.itertuples())} |")
    lines.append(f"\n{escape_markdown(explain(pair, level))}.")
    return "\n".join(lines)


def write(
    table: pd.DataFrame, which: str, pair: tuple[str, str], target_group: TargetGroup, level: float, out: Path
) -> None:
    """Write out.csv (each target too), out.tex (booktabs), out.png and out.pdf."""
    cells = pd.DataFrame.from_dict(
        _cells(table, target_group), orient="index", columns=list(list_measures(target_group).values())
    )
    caption = (
        f"Mean of {', '.join(target_group.columns)} on {which}; {describe_labels(table, pair)}. {explain(pair, level)}."
    )
    comparison.save(table, cells, caption, draw_panels(table, which, pair, target_group), out)


def draw_panels(table: pd.DataFrame, which: str, pair: tuple[str, str], target_group: TargetGroup) -> Figure:
    """Return a figure of accuracy against each gap for the mean over targets, and against the gap of the signed error for
    the first targets; with 95 % intervals in both directions."""
    panels = [(MEAN, gap) for gap in GAPS]
    if len(target_group.columns) > 1:
        panels += [(column, "error_difference") for column in target_group.columns[:MOST]]
    rows = -(-len(panels) // _A_ROW)
    figure = Figure(figsize=(9, 1.4 + 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, _A_ROW, squeeze=False).ravel()
    for axes, (target, gap) in zip(grid, panels, strict=False):
        of_target = table[table["target"] == target].set_index(["setting", "measure"])
        for index, name in enumerate(_names(table)):
            x, y = of_target.loc[(name, gap)], of_target.loc[(name, "accuracy")]
            reach = [np.maximum([row["value"] - row["low"], row["high"] - row["value"]], 0)[:, None] for row in (x, y)]
            style = {"color": COLOURS[index % len(COLOURS)], "marker": _MARKERS[index % len(_MARKERS)], "capsize": 2}
            axes.errorbar([x["value"]], [y["value"]], xerr=reach[0], yerr=reach[1], markersize=5, label=name, **style)
        axes.axvline(0, color="grey", linewidth=0.8)
        if gap == "error_difference":
            opposite = -of_target["value"].xs("label_difference", level="measure").iloc[0]
            axes.axvline(
                opposite, color="black", linewidth=0.8, linestyle=":", label="equal predictions for both groups"
            )
        axes.set(xlabel=GAPS[gap], ylabel=words.name_accuracy(target_group), title=shorten(target))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    marks = comparison.describe_marks(table["seeds"].max())
    title = f"{which}; {marks}\n{describe_labels(table, pair)}; gaps have the same order"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure


def _names(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table["setting"]))


def _cells(table: pd.DataFrame, target_group: TargetGroup) -> dict[str, list[str]]:
    """Return for each setting the mean over targets of each measure, as text."""
    means = table[table["target"] == MEAN].set_index(["setting", "measure"])
    return {
        name: [
            _cell(means.loc[(name, measure)], measure not in ("accuracy", "coverage"))
            for measure in list_measures(target_group)
        ]
        for name in _names(table)
    }


def _changes(table: pd.DataFrame, target_group: TargetGroup) -> dict[str, list[str]]:
    renamed = table.assign(value=table["change"], low=table["change_low"], high=table["change_high"], seed_std=np.nan)
    means = renamed[renamed["target"] == MEAN].set_index(["setting", "measure"])
    return {
        name: [_cell(means.loc[(name, measure)]) for measure in list_measures(target_group)] for name in _names(table)
    }


def _cell(row: object, is_signed: bool = True) -> str:
    """Return value ± standard deviation over seeds [interval]."""
    value, low, high, std = (float(getattr(row, name)) for name in ("value", "low", "high", "seed_std"))
    if np.isnan(value):
        return "–"
    write_number = _signed if is_signed else "{:.4f}".format
    spread = "" if np.isnan(std) else f" ± {std:.4f}"
    interval = "" if np.isnan(low) else f" [{write_number(low)}, {write_number(high)}]"
    return write_number(value) + spread + interval


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
