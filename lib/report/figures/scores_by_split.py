"""R² and accuracy of the selected weights on each split, for each target and their mean, with intervals."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report import ceilings
from lib.report.figures._base import SPLIT_STYLES, FigureInputs, draw_intervals
from lib.report.words import name_accuracy
from lib.scoring.bootstrap import MIN_VIDEOS

SECTION, ORDER = "results", 50
CAPTION = (
    "R² and accuracy of the selected weights on each split, with 95 % intervals over videos. A training score far above the"
    " others indicates overfitting. The epoch is selected on the validation clips, so their score may be too high."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    scores = results.split_scores
    targets = ["mean", *group.columns] if len(group.columns) > 1 else group.columns
    figure = Figure(figsize=(max(4.5, 1.1 * len(targets)), 5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, score, label in zip(panels, ("r2", "accuracy"), ("R²", name_accuracy(group)), strict=True):
        for offset, (split, (colour, marker)) in zip((-0.2, 0, 0.2), SPLIT_STYLES.items(), strict=True):
            rows = scores[(scores["split"] == split) & (scores["score"] == score)].set_index("target").reindex(targets)
            if rows["clips"].isna().all():
                continue
            description = f"{split} ({rows['clips'].iloc[0]:.0f} clips of {rows['videos'].iloc[0]:.0f} videos)"
            places = np.arange(len(targets)) + offset
            draw_intervals(axes, places, rows, colour, marker=marker, label=description, vertical=True)
        axes.set(xlim=(-0.5, len(targets) - 0.5), ylabel=label)
    bounds = np.array([ceilings.find(results.scores, "r2", target) for target in targets])
    if np.isfinite(bounds).any():
        panels[0].plot(np.arange(len(targets)), bounds, "_", color="black", markersize=22, label=ceilings.LABEL)
    panels[0].axhline(0, color="grey", linestyle=":", linewidth=0.8)
    panels[1].set_xticks(range(len(targets)), targets, rotation=20)
    description = f"lines: 95 % intervals, bootstrap over videos, from {MIN_VIDEOS} videos on"
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", frameon=False, title=description)
    return figure


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the mean R² of each split."""
    table = results.split_scores
    means = table[(table["score"] == "r2") & (table["target"] == "mean")].dropna(subset="value").set_index("split")
    texts = [f"{row['value']:.2f} on {split}" for split, row in means.iterrows()]
    text = f"Here mean R² is {', '.join(texts)} clips.".replace("-", "−") if texts else ""
    return f"{text} {ceilings.explain(results.scores)}".strip()
