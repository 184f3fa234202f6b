"""Quantile-quantile plots (1 to 99 %) of predictions against labels, a panel for each target."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, FigureInputs, draw_identity_line, format_title, label_left, make_panels
from lib.report.words import CALIBRATION, format_range

SECTION, ORDER = "results", 90
CAPTION = (
    "Quantiles (1 to 99 %) of predictions against those of labels. On the line both have the same distribution. A curve"
    " flatter than the line shows that extremes are not predicted. Below each panel: SD ratio (ideal: 1), regression to"
    " the mean (ideal: 0) and calibration slope (ideal: 1)."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    scores = results.scores
    labelled = results.predictions.dropna(subset="actual")
    chosen = (scores["subset"] == "all") & (scores["predictor"] == "model")
    of_model = scores[chosen].set_index(["score", "target"])["value"]
    fractions = np.linspace(0.01, 0.99, 99)
    figure, panels = make_panels(group)
    for target, axes in panels.items():
        rows = labelled[labelled["target"] == target]
        axes.plot(rows["actual"].quantile(fractions), rows["predicted"].quantile(fractions), color=COLOURS[0])
        text = "\n".join(
            f"{label.removesuffix(' to the mean')} {_two_digits(of_model[score, target])}"
            for score, label in CALIBRATION.items()
        )
        draw_identity_line(axes, labelled, group, format_title(target, rows, labelled), "label")
        axes.set_xlabel(f"{axes.get_xlabel()}\n{text}", fontsize=8)
    label_left(panels, f"prediction ({format_range(group)})")
    return figure


def _two_digits(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:z.2f}".replace("-", "−")  # z: no -0
