"""Attention of the other encoders to the cells of each encoder with a spatial grid; one row per clip.

Attention is the mean over encoders, heads and queries, in multiples of uniform attention. It is drawn over the encoder's
images. For an encoder without images, the mean over time is drawn over the middle image of another encoder.
"""

import numpy as np
from matplotlib.figure import Figure

from lib.report.figures._base import FigureInputs, draw_overlay, hide_axes, make_empty_figure, wrap_name
from lib.report.figures._read import ClipAttention

_PICTURES = 6  # number of evenly spaced images of an encoder

SECTION, ORDER = "attention", 220
CAPTION = (
    "Attention to regions of the face in multiples of uniform attention, mean over encoders, heads and queries. Rows"
    " are clips, from the lowest error (top) to the highest. A cell between the lines is a token; values between cells"
    " are interpolated."
)


def draw(results: FigureInputs) -> Figure:
    clips = results.attention
    maps = {name: _maps(clip) for name, clip in clips.items()}
    if not any(maps.values()):
        return make_empty_figure("no attention to regions: no encoder with a spatial grid receives attention")
    columns = max(map(len, maps.values()))
    figure = Figure(figsize=(1.3 * columns + 1, 1.45 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), columns, squeeze=False)
    for axes in grid.flat:
        hide_axes(axes, "")
    for row, (name, panels) in zip(grid, maps.items(), strict=True):
        for axes, (title, picture, values) in zip(row, panels, strict=False):
            image = draw_overlay(axes, picture, values)
            axes.set_title(title, fontsize=7)
        row[0].set_ylabel(wrap_name(name, 22), fontsize=6)
    figure.colorbar(image, ax=grid, label="attention, multiples of uniform", shrink=0.8, extend="max")
    return figure


def _maps(clip: ClipAttention) -> list[tuple[str, np.ndarray | None, np.ndarray]]:
    """Return a clip's panels: title, image (H, W, 3) or None, and attention (h, w) in multiples of uniform."""
    panels: list[tuple[str, np.ndarray | None, np.ndarray]] = []
    for key in clip.grids:
        attention = measure_attention(clip, key)
        if attention is None:
            continue
        if key in clip.pictures:
            steps = np.unique(np.linspace(0, len(attention) - 1, min(_PICTURES, len(attention))).round().astype(int))
            panels += [
                (f"{key} at {clip.times[key][step]:.1f} s", clip.pictures[key][step], attention[step]) for step in steps
            ]
        else:
            picture = next((images[len(images) // 2] for images in clip.pictures.values()), None)
            panels.append((f"{key}, all times", picture, attention.mean(0)))
    return panels


def measure_attention(clip: ClipAttention, key: str) -> np.ndarray | None:
    """Return the other encoders' attention to an encoder's cells at each time (t, h, w), in multiples of uniform attention.

    The result is None if no encoder attends to it, or if it has no spatial grid.
    """
    height, width = clip.grids[key]
    weights = [
        pair_weights.mean((0, 1)) * pair_weights.shape[-1]
        for (_, other_key), pair_weights in clip.looks.items()
        if other_key == key
    ]
    if height * width == 1 or not weights:
        return None
    return np.mean(weights, 0).reshape(len(clip.times[key]), height, width)
