"""A row for each clip: how much the other encoders' tokens look at the places of each encoder that has any. On the
pictures that the encoder saw; for one that saw none on the middle picture of another, summed over time. Mean over
encoders, heads and queries, in multiples of uniform attention; a cell is a token."""

import numpy as np
from matplotlib.figure import Figure

from lib.report.figures._base import Results, blank, draw_overlay, nothing
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
        return nothing("no attention to places: no encoder with places is looked at, or there are no weights")
    columns = max(map(len, maps.values()))
    figure = Figure(figsize=(1.3 * columns + 1, 1.45 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), columns, squeeze=False)
    for axes in grid.flat:
        blank(axes, "")
    for row, (name, of_clip) in zip(grid, maps.items(), strict=True):
        for axes, (title, picture, look) in zip(row, of_clip, strict=False):
            shown = draw_overlay(axes, picture, look)
            axes.set_title(title, fontsize=7)
        row[0].set_ylabel(name, fontsize=6)
    figure.colorbar(shown, ax=grid, label="attention, multiples of uniform", shrink=0.8, extend="max")
    return figure


def _maps(clip: Attention) -> list[tuple[str, np.ndarray | None, np.ndarray]]:
    """A clip's panels: title, picture (H, W, 3) if there is one, and look (h, w), 1 where uniform."""
    found: list[tuple[str, np.ndarray | None, np.ndarray]] = []
    for key in clip.grids:
        looks = looks_at(clip, key)
        if looks is None:
            continue
        if key in clip.pictures:
            steps = np.unique(np.linspace(0, len(looks) - 1, min(_PICTURES, len(looks))).round().astype(int))
            found += [(f"{key} at {clip.times[key][at]:.1f} s", clip.pictures[key][at], looks[at]) for at in steps]
        else:
            picture = next((of[len(of) // 2] for of in clip.pictures.values()), None)
            found.append((f"{key}, all times", picture, looks.mean(0)))
    return found


def looks_at(clip: Attention, key: str) -> np.ndarray | None:
    """Return how much the other encoders' tokens look at an encoder's places at each of its times, (t, h, w), 1 where
    uniform; None where nobody does or it has no places."""
    height, width = clip.grids[key]
    weights = [of.mean((0, 1)) * of.shape[-1] for (_, looked_at), of in clip.looks.items() if looked_at == key]
    if height * width == 1 or not weights:
        return None
    return np.mean(weights, 0).reshape(len(clip.times[key]), height, width)
