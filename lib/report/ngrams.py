"""The most positive and negative n-grams of each target (lib.scoring.ngrams) as Markdown, LaTeX and figure."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.core.targets import TargetGroup
from lib.report import comparison, words
from lib.report.figures import COLOURS
from lib.report.names import MOST, shorten


def select_extremes(table: pd.DataFrame, top: int) -> pd.DataFrame:
    """Return the `top` n-grams with the highest and with the lowest weight of each target, sorted by absolute weight.

    The column `side` is "higher" or "lower".
    """
    tables = []
    for _, rows in table.groupby("target", sort=False):
        rows = rows.sort_values("weight", ascending=False, kind="stable")
        tables += [rows[:top].assign(side="higher"), rows[: -top - 1 : -1].assign(side="lower")]
    extremes = pd.concat(tables, ignore_index=True)
    return extremes[(extremes["weight"] > 0) == (extremes["side"] == "higher")]


def format_markdown(table: pd.DataFrame, top: int, caption: str) -> str:
    """Return a row for each target and side: n-grams, and the fraction of resamples in which each is among the top."""
    lines = [f"{caption}\n", "| target | n-grams (fraction of resamples among the top) |", "|---|---|"]
    for (target, side), rows in select_extremes(table, top).groupby(["target", "side"], sort=False):
        ngrams = ", ".join(f"{row.ngram} ({row.in_top:.0%})" for row in rows.itertuples())
        lines.append(f"| {target}, {side} | {ngrams} |")
    return "\n".join(lines)


def write(table: pd.DataFrame, top: int, caption: str, group: TargetGroup, out: Path) -> None:
    """Write out.csv (every n-gram), out.tex (booktabs), out.png and out.pdf."""
    extremes = select_extremes(table, top)
    texts = {
        "n-gram": extremes["ngram"],
        "videos": extremes["videos"].map(str),
        "weight": [f"{row.weight:+.4f} [{row.low:.4f}, {row.high:.4f}]" for row in extremes.itertuples()],
        "same sign": extremes["same_sign"].map("{:.0%}".format),
        "among the top": extremes["in_top"].map("{:.0%}".format),
    }
    cells = pd.DataFrame(texts).set_axis(extremes["target"].where(~extremes["target"].duplicated(), ""), axis=0)
    comparison.save(table, cells.rename_axis(None), caption, draw_weights(table, top, caption, group), out)


def draw_weights(table: pd.DataFrame, top: int, caption: str, group: TargetGroup) -> Figure:
    """Return a figure with a panel for each target: the weights of its n-grams with 95 % intervals.

    A point is darker if its n-gram is among the top in more resamples.
    """
    extremes = select_extremes(table, top)
    targets = list(dict.fromkeys(extremes["target"]))[:MOST]
    figure = Figure(figsize=(2.5 * len(targets) + 0.5, 1.4 + 0.36 * top), layout="constrained")
    grid = figure.subplots(1, len(targets), squeeze=False, sharex=True)[0]
    for axes, target in zip(grid, targets, strict=True):
        rows = extremes[extremes["target"] == target].sort_values("weight")
        for position, row in enumerate(rows.itertuples()):
            colour = COLOURS[0] if row.weight > 0 else COLOURS[1]
            reach = [[max(row.weight - row.low, 0)], [max(row.high - row.weight, 0)]]
            axes.errorbar(
                row.weight, position, xerr=reach, fmt="o", markersize=4, color=colour, alpha=0.3 + 0.7 * row.in_top
            )
        labels = [f"{row.ngram}  {row.in_top:.0%}" for row in rows.itertuples()]
        axes.set_yticks(np.arange(len(rows)), labels, fontsize=7)
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_title(shorten(target))
        axes.tick_params(axis="x", labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    figure.supxlabel(
        f"weight: points of the target ({words.format_range(group)}) for a standard deviation of presence", fontsize=9
    )
    figure.suptitle(caption, fontsize=8, x=0.01, ha="left", wrap=True)
    return figure
