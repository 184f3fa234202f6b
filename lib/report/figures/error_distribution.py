"""Box plots of the signed errors of each target, with whiskers from the 5th to the 95th percentile."""

import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, FigureInputs, make_figure
from lib.report.words import format_range

SECTION, ORDER = "results", 70
CAPTION = (
    "Distribution of signed errors. Boxes: 25th to 75th percentile; whiskers: 5th to 95th; line: median. A box that"
    " lies off zero indicates a bias."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    labelled = results.predictions.dropna(subset="actual")
    figure, axes = make_figure(max(3, 1.1 * len(group.columns)), 3)
    errors = [rows["predicted"] - rows["actual"] for _, rows in _by_target(labelled, group)]
    axes.boxplot(errors, tick_labels=group.columns, whis=(5, 95), showfliers=False, medianprops={"color": COLOURS[1]})
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_ylabel(f"prediction − label (range {format_range(group)})")
    axes.tick_params(axis="x", rotation=20)
    return figure


def _by_target(rows: pd.DataFrame, group: TargetGroup) -> list[tuple[str, pd.DataFrame]]:
    return [(target, rows[rows["target"] == target]) for target in group.columns]
