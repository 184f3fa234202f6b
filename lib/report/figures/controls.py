"""Loss of accuracy when a stream is swapped with another clip's, shuffled in time, or frozen."""

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import FigureInputs, draw_forest, make_empty_figure
from lib.report.words import name_accuracy

SECTION, ORDER = "needs", 150
CAPTION = (
    "Input ablations: loss of accuracy on the same clips when a stream is swapped with another clip's (permutation"
    " importance, Breiman 2001), shuffled in time, or frozen; with 95 % intervals over videos. A loss of zero: the"
    " predictions do not depend on the stream, its order or its motion. Zero flow never occurs in training and may change"
    ' predictions for that reason alone: compare it with the row "another clip\'s flow".'
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    if results.controls.empty:
        return make_empty_figure("not measured: analyse.control_clips is 0")
    table = results.controls[results.controls["loss"].notna()]
    repeats = table["repeats"].max()
    label = f"loss of {name_accuracy(group)}, {table['clips'].iloc[0]} clips"
    return draw_forest(table, "control", "loss", group, label + (f", mean of {repeats} draws" if repeats > 1 else ""))


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the largest mean loss."""
    if results.controls.empty:
        return ""
    means = results.controls[results.controls["target"] == "mean"].dropna(subset="loss")
    if means.empty:
        return ""
    row = means.loc[means["loss"].idxmax()]
    return f"Here the largest mean loss is {row['loss']:.3f} in {name_accuracy(group)} ({row['control']})."
