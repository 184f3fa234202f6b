"""Mean attention of each head on the mean face, next to that of the network with shuffled weights."""

import numpy as np
from matplotlib.figure import Figure

from lib.report.figures._base import FigureInputs, draw_overlay, hide_axes, make_empty_figure
from lib.report.figures._read import EncoderAttention

SECTION, ORDER = "attention", 200
CAPTION = (
    "Attention to the tokens of each encoder with a spatial grid, mean over clips, times and queries, on the mean aligned"
    " face. Maps: all heads, each head and, as a check, the same network with its weights shuffled within each layer"
    " (Adebayo et al. 2018). 1 is uniform attention. If the shuffled network's map is similar (rank correlation far above"
    " 0), the map shows the architecture and not what the network has learnt."
)


def draw(results: FigureInputs) -> Figure:
    all_encoders = results.mean_attention.encoders
    encoders = {
        name: encoder_attention
        for name, encoder_attention in all_encoders.items()
        if encoder_attention.heads[0].size > 1
    }
    if not encoders:
        return make_empty_figure(
            "no attention to regions: no encoder with a spatial grid receives attention, or analyse.control_clips is 0"
        )
    heads = max(len(encoder_attention.heads) for encoder_attention in encoders.values())
    figure = Figure(figsize=(1.7 * (heads + 2) + 1, 2.1 * len(encoders)), layout="constrained")
    grid = figure.subplots(len(encoders), heads + 2, squeeze=False)
    for axes in grid.flat:
        hide_axes(axes, "")
    picture = next(
        (encoder_attention.picture for encoder_attention in encoders.values() if encoder_attention.picture is not None),
        None,
    )
    for row, (name, encoder_attention) in zip(grid, encoders.items(), strict=True):
        panels = [
            ("mean of the heads", encoder_attention.heads.mean(0)),
            *((f"head {number + 1}", values) for number, values in enumerate(encoder_attention.heads)),
        ]
        for axes, (title, attention) in zip(row, panels, strict=False):
            image = draw_overlay(axes, picture, attention)
            axes.set_title(title, fontsize=8)
        draw_overlay(row[-1], picture, encoder_attention.shuffled.mean(0))
        row[-1].set_title("shuffled weights", fontsize=8)
        height, width = encoder_attention.heads.shape[1:]
        row[0].set_ylabel(f"{name}: {height} × {width} cells", fontsize=8)
    figure.supxlabel(
        "\n".join(f"{name}: {_correlation(encoder_attention)}" for name, encoder_attention in all_encoders.items()),
        fontsize=8,
    )
    label = f"attention, multiples of uniform;\nmean over {results.mean_attention.clips} clips"
    figure.colorbar(image, ax=grid, label=label, shrink=0.8, extend="max")
    return figure


def describe(results: FigureInputs) -> str:
    """Return the rank correlation of each encoder's attention with that of the shuffled network, as a sentence."""
    medians = {
        name: float(np.nanmedian(encoder.correlations)) for name, encoder in results.mean_attention.encoders.items()
    }
    texts = [f"{value:.2f} for {name}" for name, value in medians.items() if np.isfinite(value)]
    return (
        f"Here the median rank correlation with the shuffled network is {', '.join(texts)}.".replace("-", "−")
        if texts
        else ""
    )


def _correlation(encoder: EncoderAttention) -> str:
    low, middle, high = np.nanpercentile(encoder.correlations, [5, 50, 95])
    return f"rank correlation {middle:.2f} (5 to 95 % of clips: {low:.2f} to {high:.2f})".replace("-", "−")
