"""Accuracy, R² and CCC of the model and its baselines, on all clips and on unseen videos, with intervals."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report import ceilings, words
from lib.report.figures._base import COLOURS, FigureInputs, draw_intervals
from lib.scoring.bootstrap import MIN_VIDEOS

SECTION, ORDER = "headline", 10
CAPTION = (
    "Accuracy, R² and CCC of the model and its baselines, mean over targets. Lines: 95 % intervals over videos, from"
    f" {MIN_VIDEOS} videos on; dotted line: the training mean. A model is useful only if it beats these baselines on unseen"
    " videos too."
)
_LOOKS = {"all": (-0.15, "o", COLOURS[0]), "unseen_videos": (0.15, "D", COLOURS[1])}


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    scores = results.scores[results.scores["target"] == "mean"]
    predictors = words.select_headline_predictors(scores["predictor"].unique())
    figure = Figure(figsize=(4.6, 1.1 + 0.26 * len(predictors)), layout="constrained")  # legible on a phone
    panels = figure.subplots(1, 3, sharey=True)
    subsets = words.list_headline_subsets(scores)
    for axes, (score, (label, _)) in zip(panels, words.list_headline_scores(group).items(), strict=True):
        for subset, name in subsets.items():
            offset, marker, colour = _LOOKS[subset]
            rows = scores[(scores["subset"] == subset) & (scores["score"] == score)].set_index("predictor")
            rows = rows.reindex(predictors)
            places = np.arange(len(rows)) + (offset if len(subsets) > 1 else 0)
            draw_intervals(axes, places, rows, colour, marker=marker, label=name)
            if subset == "all" and "mean_predictor" in predictors:
                axes.axvline(rows.loc["mean_predictor", "value"], color="grey", linestyle=":", linewidth=0.8)
        ceilings.draw(axes, ceilings.find(scores, score))
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=3)
        axes.margins(x=0.12)
    panels[0].set_yticks(range(len(predictors)), [*predictors.values()])
    panels[0].set_ylim(len(predictors) - 0.5, -0.5)
    handles = dict(pair[::-1] for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the explanation of the weights, if labels are weighted, and of the ceilings, if they are known."""
    return " ".join(filter(None, [words.describe_weighting(results.scores), ceilings.explain(results.scores)]))
