"""Do importance maps lie where people marked the evidence? Pointing game and energy, against a centre and a shuffled map."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import (
    COLOURS,
    PANELS_PER_ROW,
    FigureInputs,
    draw_intervals,
    legend_below,
    make_grid,
    wrap_name,
)

SECTION, ORDER = "importance", 185
CAPTION = (
    "Right for the right reason: importance maps (occlusion) compared with the regions and times that people marked as"
    " evidence (cues.csv). Pointing: fraction of clips in which the largest importance is marked (pointing game, Zhang et"
    " al. 2018). Energy: marked part of the importance. A map equal to the marks scores 1. The map in random order"
    " (shuffled) and a bell around the centre of the image (centre) show what needs no knowledge of the target. 95 %"
    " intervals over videos. Marks say where raters think the evidence is; a model may use other evidence that is valid."
)

_MAPS = (("occlusion", COLOURS[0], "o", -0.2), ("centre", COLOURS[1], "D", 0.0), ("shuffled", COLOURS[2], "s", 0.2))


def applies(results: FigureInputs) -> bool:
    """Return whether marks of people exist for the scored clips."""
    return not results.cue_scores.empty


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    table = results.cue_scores
    table = table.assign(row=table["stream"] + ", " + table["kind"] + ": " + table["score"])
    names, targets = list(dict.fromkeys(table["row"])), list(dict.fromkeys(table["target"]))
    figure, grid = make_grid(
        len(targets),
        PANELS_PER_ROW,
        lambda rows, columns: (2.4 + 1.6 * columns, rows * (1.1 + 0.45 * len(names))),
    )
    panels = dict(zip(targets, grid, strict=True))
    for target, axes in panels.items():
        for name, colour, marker, shift in _MAPS:
            part = table[(table["target"] == target) & (table["map"] == name)].set_index("row").reindex(names)
            places = np.arange(len(names)) + shift
            draw_intervals(axes, places, part, colour, "value", marker=marker, label=name)
        axes.set_title(wrap_name(target, 18), fontsize=9)
        axes.set_xlim(-0.05, 1.05)
        axes.tick_params(labelbottom=True)
    grid[0].set_yticks(range(len(names)), names, fontsize=8)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    legend_below(figure, panels)
    return figure


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the number of maps with more energy inside than the centre and the shuffled map."""
    if not applies(results):
        return ""
    energy = results.cue_scores[results.cue_scores["score"] == "energy"]
    parts = []
    for other in ("centre", "shuffled"):
        rows = energy[energy["map"] == f"occlusion - {other}"]
        if len(rows):
            parts.append(f"above that of the {other} map for {int((rows['low'] > 0).sum())} of {len(rows)}")
    clips = f"{int(energy['clips'].min())} to {int(energy['clips'].max())}"
    return (
        f"Of the maps of a stream and a target ({clips} clips), the energy is {', and '.join(parts)} (95 % interval)."
    )
