"""Permutation importance of named measures of behaviour and voice, and of groups of them."""

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import FigureInputs, draw_forest
from lib.report.words import name_accuracy

SECTION, ORDER = "needs", 155
CAPTION = (
    "Permutation importance (Breiman 2001) of named measures: loss of accuracy on the same clips when a measure, or all"
    " measures of a group, are those of another clip, with 95 % intervals over videos. Measures that go along with each"
    " other can replace each other: then each has a small importance, and only the group's is large."
)

_MOST = 12  # number of measures in the figure, in addition to all groups
_INTACT, _GROUP = "intact", "group "


def applies(results: FigureInputs) -> bool:
    """Return whether the importance of named measures was measured."""
    return not results.feature_importance.empty


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    table = results.feature_importance
    table = table[table["control"] != _INTACT]
    means = table[table["target"] == "mean"].sort_values("loss", ascending=False)["control"]
    is_group = means.str.startswith(_GROUP)
    names = [*means[is_group], *means[~is_group][:_MOST]]
    rows = table[table["control"].isin(names)].assign(order=lambda part: part["control"].map(names.index))
    rows = rows.sort_values("order", kind="stable")
    label = f"loss of {name_accuracy(group)}, {table['clips'].iloc[0]} clips, mean of {table['repeats'].max()} draws"
    return draw_forest(rows, "control", "loss", group, label)


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the measure with the largest mean loss."""
    if not applies(results):
        return ""
    table = results.feature_importance
    means = table[(table["target"] == "mean") & ~table["control"].str.startswith((_GROUP, _INTACT))]
    row = means.loc[means["loss"].idxmax()]
    count = min(_MOST, len(means))
    return (
        f"Shown: all groups, and the {count} of {len(means)} measures with the largest mean losses; the largest is"
        f" {row['loss']:.3f} ({row['control']})."
    )
