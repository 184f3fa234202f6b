"""Layer weights: a panel for each encoder and stream with several layers of a pretrained network."""

from functools import partial
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.report.figures._base import COLOURS, PANELS_PER_ROW, FigureInputs, make_grid, wrap_name

SECTION, ORDER = "features", 128
CAPTION = (
    "Learned weights of the layers of pretrained networks, as in SUPERB (Yang et al. 2021): an encoder standardises each"
    " layer, and reads the sum of all layers with these weights, which add up to 1. The line is the weight of equal layers,"
    " with which training starts. A high weight says that the encoder uses a layer, not that the other layers lack the"
    " information."
)


def applies(results: FigureInputs) -> bool:
    """Return whether an encoder learns weights of layers."""
    return not results.layer_weights.empty


def draw(results: FigureInputs) -> Figure:
    panels = list(results.layer_weights.groupby(["encoder", "stream"], sort=False))
    across = PANELS_PER_ROW // 2
    figure, grid = make_grid(len(panels), across, lambda rows, columns: (2.6 * columns, 2.3 * rows), share=False)
    for axes, ((encoder, stream), table) in zip(grid, panels, strict=True):
        axes.bar(range(len(table)), table["weight"], color=COLOURS[0])
        axes.axhline(1 / len(table), color="grey", linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.xaxis.set_major_formatter(partial(_name_layer, tuple(table["layer"])))
        axes.set(xlabel="layer", xlim=(-0.6, len(table) - 0.4))
        axes.set_title(wrap_name(encoder if encoder == stream else f"{encoder}: {stream}", 28))
    for axes in grid[::across]:
        axes.set_ylabel("weight")
    return figure


def _name_layer(names: tuple[int, ...], place: float, _: int | None) -> str:
    return str(names[int(place)]) if 0 <= place < len(names) else ""


def describe(results: FigureInputs) -> str:
    """Return the layer with the highest weight of each encoder and stream."""
    if not applies(results):
        return ""
    table = results.layer_weights
    highest = table.loc[table.groupby(["encoder", "stream"], sort=False)["weight"].idxmax()]
    return f"Highest weights here: {', '.join(map(_describe_row, highest.itertuples()))}."


def _describe_row(row: Any) -> str:
    return f"{row.encoder} layer {row.layer} of {row.stream} ({row.weight:.2f})"
