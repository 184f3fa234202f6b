"""For each target of a group the quantiles (1 to 99 %) of the predicted against those of the actual values: on the line
both have the same distribution, whether or not clip by clip."""

import numpy as np
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, Results, label_left, panels_of, square, title_of
from lib.report.words import CALIBRATION, scale

SECTION, ORDER = "results", 90
CAPTION = (
    "Quantiles (1 to 99 %) of predictions against those of labels. On the line both have the same distribution. A curve"
    " flatter than the line shows that extremes are not predicted. Below each panel: SD ratio (ideal: 1), regression to"
    " the mean (ideal: 0) and calibration slope (ideal: 1)."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    scores = results.scores
    known = results.predictions.dropna(subset="actual")
    chosen = (scores["subset"] == "all") & (scores["predictor"] == "model")
    of_model = scores[chosen].set_index(["score", "target"])["value"]
    shares = np.linspace(0.01, 0.99, 99)
    figure, panels = panels_of(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        axes.plot(rows["actual"].quantile(shares), rows["predicted"].quantile(shares), color=COLOURS[0])
        about = "\n".join(
            f"{label.removesuffix(' to the mean')} {_two_digits(of_model[score, target])}"
            for score, label in CALIBRATION.items()
        )
        square(axes, known, group, title_of(target, rows, known), "label")
        axes.set_xlabel(f"{axes.get_xlabel()}\n{about}", fontsize=8)
    label_left(panels, f"prediction ({scale(group)})")
    return figure


def _two_digits(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:z.2f}".replace("-", "−")  # z: no -0
