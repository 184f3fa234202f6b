"""Accuracy, r and ρ on each corpus, by predictors that were trained on other corpora and on the corpus itself."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report import ceilings, words
from lib.report.figures._base import COLOURS, FigureInputs, draw_intervals, wrap_name
from lib.scoring.ceilings import CEILING
from lib.scoring.corpus_scores import DROP, SCORES, TRAINING, WITHIN

SECTION, ORDER = "corpora", 115
CAPTION = (
    "Scores on each corpus, with 95 % intervals over videos: accuracy, Pearson's r and Spearman's ρ. Circles: predictors"
    " that were fitted to the training clips. Diamonds: ridge on the same vectors, fitted to the scored corpus itself; each"
    " clip is predicted from clips of other videos. The line between the two is the drop. Accuracy depends on level and"
    " spread of a corpus' labels; r and ρ do not. Raters, scales and instructions differ between corpora, so a drop is not"
    " due to the model alone."
)
_LOOKS = {TRAINING: ("o", COLOURS[0], "trained on the training clips"), WITHIN: ("D", COLOURS[1], "corpus itself")}
_LABELS = {"pearson": "r", "spearman": "ρ"}


def applies(results: FigureInputs) -> bool:
    """Return whether a corpus was scored on its own."""
    return not results.corpus_scores.empty


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    table = results.corpus_scores
    rows = table["predictor"].map(words.name_predictor) + " on " + table["corpus"]
    bounds = table[table["predictor"] == CEILING]
    table = table.assign(row=rows)[~table["predictor"].isin(["mean_predictor", CEILING])]
    names, targets = list(dict.fromkeys(table["row"])), ["mean", *group.columns]
    size = 2.2 + 1.4 * len(targets), 0.6 + len(SCORES) * (0.5 + 0.24 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(SCORES), len(targets), sharex="row", sharey=True, squeeze=False)
    for panels, score in zip(grid, SCORES, strict=True):
        for axes, target in zip(panels, targets, strict=True):
            part = table[(table["score"] == score) & (table["target"] == target)]
            pair = [part[part["fit"] == fit].set_index("row").reindex(names) for fit in _LOOKS]
            axes.hlines(range(len(names)), pair[0]["value"], pair[1]["value"], color="grey", linewidth=0.8)
            for rows, offset, (marker, colour, label) in zip(pair, (-0.15, 0.15), _LOOKS.values(), strict=True):
                draw_intervals(axes, np.arange(len(names)) + offset, rows, colour, marker=marker, label=label)
            for value in bounds.loc[(bounds["score"] == score) & (bounds["target"] == target), "value"].unique():
                ceilings.draw(axes, value)
            axes.locator_params(axis="x", nbins=3)
            axes.tick_params(labelbottom=True)
        panels[len(targets) // 2].set_xlabel(_LABELS.get(score, words.name_accuracy(group)))
    for axes, target in zip(grid[0], targets, strict=True):
        axes.set_title(wrap_name(target, 18), fontsize=9)
    grid[0, 0].set_yticks(range(len(names)), names)
    grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return the model's mean r on each corpus, and its drop."""
    if not applies(results):
        return ""
    table = results.corpus_scores
    means = table[(table["predictor"] == "model") & (table["score"] == "pearson") & (table["target"] == "mean")]
    sentences = []
    for corpus, rows in means.groupby("corpus", sort=False):
        by_fit = rows.set_index("fit")
        if TRAINING not in by_fit.index:
            continue
        row = by_fit.loc[TRAINING]
        kind = "clips of its scored split" if row["trained"] else "clips, none in training"
        text = f"mean r of the model is {_format(row)} on {corpus} ({row['clips']} {kind})"
        if DROP in by_fit.index:
            text += f", {_format(by_fit.loc[DROP])} below that of ridge fitted to {corpus} itself"
        sentences.append(text)
    bound = f" Dashed: {ceilings.LABEL}." if table["predictor"].eq(CEILING).any() else ""
    return f"Here {'; '.join(sentences)}.{bound}" if sentences else ""


def _format(row: pd.Series) -> str:
    interval = f" [{row['low']:.2f}, {row['high']:.2f}]" if np.isfinite(row["low"]) else ""
    return f"{row['value']:.2f}{interval}".replace("-", "−")
