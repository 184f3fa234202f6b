"""By epoch the loss and each target group's accuracy, of training and validation, the kept epoch marked."""

from itertools import cycle

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.report.figures._base import OF_SPLIT, Results
from lib.report.words import accuracy

SECTION, ORDER = "results", 40
CAPTION = (
    "Loss and accuracy by epoch; the dotted line is the epoch whose weights are kept, that of the lowest validation loss."
    " Look for curves that part: from there on the model learns its training clips by heart."
)


def draw(results: Results) -> Figure:
    history, targets = results.history, results.targets
    figure = Figure(figsize=(8.5, 4), layout="constrained")
    loss, right = figure.subplots(1, 2)
    best = history.loc[history["validation_loss"].idxmin(), "epoch"]
    for split, about in (("training", "training, during the epoch"), ("validation", "validation, after it")):
        loss.plot(history["epoch"], history[f"{split}_loss"], color=OF_SPLIT[split], label=about)
        for name, style in zip(targets, cycle(("-", "--", "-.", (0, (1, 1)))), strict=False):
            label = f"{name}: {about}" if len(targets) > 1 else about
            values = history[f"{split}_accuracy_{name}"]
            right.plot(history["epoch"], values, color=OF_SPLIT[split], linestyle=style, label=label)
    for axes in (loss, right):
        axes.axvline(best, color="grey", linestyle=":", label=f"kept: epoch {best:.0f}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    names = {accuracy(group) for group in targets.values()}
    loss.set(ylabel="loss", yscale="log")
    right.set_ylabel(names.pop() if len(names) == 1 else "1 − MAE / width of the range")
    return figure
