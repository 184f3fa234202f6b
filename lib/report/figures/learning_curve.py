"""By epoch: loss, 1 - MAE, R2 and CCC of each target group and of each of its targets, with the kept epoch marked."""

from itertools import cycle

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.report.figures._base import COLOURS, OF_SPLIT, Results
from lib.report.words import accuracy

SECTION, ORDER = "results", 40
CAPTION = (
    "Loss, accuracy, R² and CCC by epoch, thin lines for single targets (validation); the dotted line is the epoch whose"
    " weights are kept, that of the lowest validation loss."
    " Look for curves that part: from there on the model learns its training clips by heart."
)

_STYLES = "-", "--", "-.", (0, (1, 1))


def draw(results: Results) -> Figure:
    history, targets = results.history, results.targets
    figure = Figure(figsize=(8.5, 8), layout="constrained")
    loss, right, r2, ccc = figure.subplots(2, 2).flat
    best = history.loc[history["validation_loss"].idxmin(), "epoch"]
    for split, about in (("training", "training, during the epoch"), ("validation", "validation, after it")):
        loss.plot(history["epoch"], history[f"{split}_loss"], color=OF_SPLIT[split], label=about)
        for name, style in zip(targets, cycle(_STYLES), strict=False):
            label = f"{name}: {about}" if len(targets) > 1 else about
            values = history[f"{split}_accuracy_{name}"]
            right.plot(history["epoch"], values, color=OF_SPLIT[split], linestyle=style, label=label)
    for axes, score in ((right, "accuracy"), (r2, "r2"), (ccc, "ccc")):
        for name, style in zip(targets, cycle(_STYLES), strict=False):
            if score != "accuracy":
                label = f"{name}: mean" if len(targets) > 1 else "mean"
                values = history[f"validation_{score}_{name}"]
                axes.plot(history["epoch"], values, color=OF_SPLIT["validation"], linestyle=style, label=label)
            for colour, column in zip(cycle(COLOURS), targets[name].columns, strict=False):
                values = history[f"validation_{score}_{name}.{column}"]
                axes.plot(history["epoch"], values, color=colour, linestyle=style, linewidth=0.7, label=column)
    for axes in (loss, right, r2, ccc):
        axes.axvline(best, color="grey", linestyle=":", label=f"kept: epoch {best:.0f}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=7)
    names = {accuracy(group) for group in targets.values()}
    loss.set(ylabel="loss", yscale="log")
    right.set_ylabel(names.pop() if len(names) == 1 else "1 − MAE / width of the range")
    r2.set_ylabel("R², validation")
    ccc.set_ylabel("CCC, validation")
    return figure
