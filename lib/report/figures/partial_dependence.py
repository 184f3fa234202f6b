"""Partial dependence of predictions on named measures of behaviour and voice, and on groups of them."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, FigureInputs, legend_below, title_column
from lib.report.words import name_predictor

SECTION, ORDER = "needs", 157
CAPTION = (
    "Partial dependence (Friedman 2001): mean change of the predictions for the same clips when a named measure is set to"
    " one value for every clip, from its 5th to its 95th percentile, relative to the mean of the curve, with 95 % intervals"
    " over videos (bands). The numbers of a group move together along their first principal component (horizontal axis),"
    " towards higher values of the measure named below it. A flat curve: predictions do not change with the measure. The"
    " intervals describe these clips, not the fit: ridge is linear, so that its band has no width. Measures that go along"
    " with each other are set to combinations that no clip has: compare the curve of their group."
)

_GROUPS, _SINGLES = 3, 5  # number of rows
_GROUP = "group "
_STYLES = (*zip(COLOURS, ("-", "--", ":", "-."), strict=False),)


def applies(results: FigureInputs) -> bool:
    """Return whether partial dependence was measured."""
    return not results.partial_dependence.empty


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    table = results.partial_dependence
    names, models = choose_features(table), list(dict.fromkeys(table["model"]))
    figure = Figure(figsize=(1.6 + 1.7 * len(group.columns), 0.8 + 1.35 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), len(group.columns), sharex="row", sharey=True, squeeze=False)
    for name, row in zip(names, grid, strict=True):
        rows = table[table["feature"] == name]
        for target, axes in zip(group.columns, row, strict=True):
            _draw_curves(axes, rows[rows["target"] == target], models)
        row[0].set_ylabel(name.replace(".", ".\n", 1).replace(_GROUP, "group\n"), fontsize=7)
        towards = rows["towards"].iloc[0]
        row[0].set_xlabel(f"towards {towards}" if towards else "", fontsize=7, loc="left")
    for target, axes in zip(group.columns, grid[0], strict=True):
        title_column(axes, target, len(group.columns), 9)
    legend_below(figure, {str(index): axes for index, axes in enumerate(grid.ravel())})
    figure.supylabel(f"change of prediction (range {group.range[0]:g} to {group.range[1]:g})", fontsize=9)
    return figure


def _draw_curves(axes: Axes, rows: pd.DataFrame, models: list[str]) -> None:
    for model, curve in rows.groupby("model", sort=False):
        colour, line = _STYLES[models.index(str(model)) % len(_STYLES)]
        axes.plot(curve["at"], curve["value"], line, color=colour, label=name_predictor(str(model)), linewidth=1.5)
        axes.fill_between(curve["at"], curve["low"], curve["high"], color=colour, alpha=0.25, linewidth=0)
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=4)


def choose_features(table: pd.DataFrame) -> list[str]:
    """Return the groups and then the single measures whose curves have the largest ranges, for any model and target."""
    curves = table.groupby(["feature", "model", "target"], sort=False)["value"]
    ranges = (curves.max() - curves.min()).groupby("feature", sort=False).max()
    is_group = ranges.index.str.startswith(_GROUP)
    chosen = [*ranges[is_group].nlargest(_GROUPS).index, *ranges[~is_group].nlargest(_SINGLES).index]
    return [str(name) for name in chosen]


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return which features are shown, and the largest range of a curve of the model."""
    if not applies(results):
        return ""
    table = results.partial_dependence
    features = table["feature"].drop_duplicates()
    is_group = features.str.startswith(_GROUP)
    sentence = (
        f"Shown: the {min(_GROUPS, is_group.sum())} of {is_group.sum()} groups and the"
        f" {min(_SINGLES, (~is_group).sum())} of {(~is_group).sum()} measures with the largest changes"
        f" ({table['clips'].iloc[0]} clips)."
    )
    curves = table[~table["feature"].str.startswith(_GROUP)].groupby(["model", "feature", "target"], sort=False)[
        "value"
    ]
    if not len(curves):
        return sentence
    ranges = curves.max() - curves.min()
    model, feature, target = ranges.idxmax()
    return f"{sentence} The largest is {ranges.max():.3f} ({target} by {name_predictor(model)}, {feature})."
