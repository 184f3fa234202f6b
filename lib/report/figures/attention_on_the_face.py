"""A row for each clip: how much the other encoders' tokens look at the places of each encoder that has any. On the
pictures that the encoder saw; for one that saw none on the middle picture of another, summed over time. Mean over
encoders, heads and queries, in multiples of uniform attention; a cell is a token."""

import numpy as np
from matplotlib.figure import Figure

from lib.report.figures._base import Results, draw_overlay, hide_axes, make_empty_figure
from lib.report.figures._read import Attention

_PICTURES = 6  # of an encoder, spread over its times

SECTION, ORDER = "attention", 220
CAPTION = (
    "Attention to regions of the face in multiples of uniform attention, mean over encoders, heads and queries. Rows"
    " are clips, from the lowest error (top) to the highest. A cell between the lines is a token; values between cells"
    " are interpolated."
)


def draw(results: Results) -> Figure:
    clips = results.attention
    maps = {name: _maps(clip) for name, clip in clips.items()}
    if not any(maps.values()):
        return make_empty_figure("no attention to places: no encoder with places is looked at, or there are no weights")
    columns = max(map(len, maps.values()))
    figure = Figure(figsize=(1.3 * columns + 1, 1.45 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), columns, squeeze=False)
    for axes in grid.flat:
        hide_axes(axes, "")
    for row, (name, of_clip) in zip(grid, maps.items(), strict=True):
        for axes, (title, picture, look) in zip(row, of_clip, strict=False):
            image = draw_overlay(axes, picture, look)
            axes.set_title(title, fontsize=7)
        row[0].set_ylabel(name, fontsize=6)
    figure.colorbar(image, ax=grid, label="attention, multiples of uniform", shrink=0.8, extend="max")
    return figure


def _maps(clip: Attention) -> list[tuple[str, np.ndarray | None, np.ndarray]]:
    """A clip's panels: title, picture (H, W, 3) or None, and attention (h, w), 1 where uniform."""
    panels: list[tuple[str, np.ndarray | None, np.ndarray]] = []
    for key in clip.grids:
        looks = measure_attention(clip, key)
        if looks is None:
            continue
        if key in clip.pictures:
            steps = np.unique(np.linspace(0, len(looks) - 1, min(_PICTURES, len(looks))).round().astype(int))
            panels += [
                (f"{key} at {clip.times[key][step]:.1f} s", clip.pictures[key][step], looks[step]) for step in steps
            ]
        else:
            picture = next((images[len(images) // 2] for images in clip.pictures.values()), None)
            panels.append((f"{key}, all times", picture, looks.mean(0)))
    return panels


def measure_attention(clip: Attention, key: str) -> np.ndarray | None:
    """Return how much the other encoders' tokens look at an encoder's places at each of its times, (t, h, w), 1 where
    uniform; None if no encoder attends to it or it has no spatial grid."""
    height, width = clip.grids[key]
    weights = [
        pair_weights.mean((0, 1)) * pair_weights.shape[-1]
        for (_, looked_at), pair_weights in clip.looks.items()
        if looked_at == key
    ]
    if height * width == 1 or not weights:
        return None
    return np.mean(weights, 0).reshape(len(clip.times[key]), height, width)
