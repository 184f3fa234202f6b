"""Loss, 1 - MAE, R2 and CCC by epoch, for each target group and each of its targets, with the selected epoch marked."""

import math
from itertools import cycle

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import offset_copy

from lib.report import ceilings
from lib.report.figures._base import COLOURS, SPLIT_STYLES, FigureInputs
from lib.report.words import name_accuracy

SECTION, ORDER = "results", 40
CAPTION = (
    "Loss, accuracy, R² and CCC by epoch; thin lines: single targets (validation). Dotted line: the epoch with the lowest"
    " validation loss, whose weights are kept. Where the curves of training and validation diverge, the model overfits."
)

_ONE_COLUMN = 8  # largest number of lines in a legend of one column
_STYLES = "-", "--", "-.", (0, (1, 1))
_MEANS = {"training": "grey", "validation": "black"}  # colours of means over targets


def draw(results: FigureInputs) -> Figure:
    history, targets = results.history, results.targets
    figure = Figure(figsize=(8.5, 8), layout="constrained")
    loss, accuracy_panel, r2, ccc = figure.subplots(2, 2).flat
    best = history.loc[history["validation_loss"].idxmin(), "epoch"]
    for split, description in (("training", "training, during the epoch"), ("validation", "validation, after it")):
        loss.plot(history["epoch"], history[f"{split}_loss"], color=SPLIT_STYLES[split][0], label=description)
        for name, style in zip(targets, cycle(_STYLES), strict=False):
            label = f"{name}: {description}" if len(targets) > 1 else description
            values = history[f"{split}_accuracy_{name}"]
            accuracy_panel.plot(history["epoch"], values, color=_MEANS[split], linestyle=style, label=label)
    for axes, score in ((accuracy_panel, "accuracy"), (r2, "r2"), (ccc, "ccc")):
        for name, style in zip(targets, cycle(_STYLES), strict=False):
            if score != "accuracy":
                label = f"{name}: mean" if len(targets) > 1 else "mean"
                values = history[f"validation_{score}_{name}"]
                axes.plot(history["epoch"], values, color=_MEANS["validation"], linestyle=style, label=label)
            ceilings.draw(axes, _find_ceiling(results, name, score), vertical=False)
            for colour, column in zip(cycle(COLOURS), targets[name].columns, strict=False):
                values = history[f"validation_{score}_{name}.{column}"]
                axes.plot(history["epoch"], values, color=colour, linestyle=style, linewidth=0.7, label=column)
    for axes in (loss, accuracy_panel, r2, ccc):
        axes.axvline(best, color="grey", linestyle=":", label=f"best epoch: {best:.0f}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        below = offset_copy(axes.transAxes, figure, y=-30, units="points")  # of the label of the axis
        columns = 1 if len(axes.lines) <= _ONE_COLUMN else 2
        axes.legend(
            frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, fontsize=7, ncols=columns
        )
    names = {name_accuracy(group) for group in targets.values()}
    loss.set(ylabel="loss", yscale="log")
    for axis_formatter in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        axis_formatter(FuncFormatter(_format_tick))  # matplotlib's are mathematics, which target names switch off
    accuracy_panel.set_ylabel(names.pop() if len(names) == 1 else "1 − MAE / width of the range")
    r2.set_ylabel("R², validation")
    ccc.set_ylabel("CCC, validation")
    return figure


def _find_ceiling(results: FigureInputs, name: str, score: str) -> float:
    """Return the ceiling of the mean over a group's targets on the scored split, NaN if it is unknown."""
    return ceilings.find(results.scores[results.scores["targets"] == name], score)


def _format_tick(value: float, _: int | None = None) -> str:
    """Return a tick of a logarithmic axis: 1, 2 and 5 of each decade."""
    digit = value / 10 ** math.floor(math.log10(value) + 1e-9)
    return f"{value:.3g}" if round(digit) in (1, 2, 5) else ""


def describe(results: FigureInputs) -> str:
    """Return the best epoch and its losses."""
    row = results.history.loc[results.history["validation_loss"].idxmin()]
    losses = f"training {row['training_loss']:.4g}, validation {row['validation_loss']:.4g}"
    return f"Here epoch {row['epoch']:.0f} of {len(results.history)} is the best (loss: {losses})."
