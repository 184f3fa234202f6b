"""R² of a linear probe of each encoder's output and of the fused vector, next to the model's own."""

import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report import ceilings
from lib.report.figures._base import FigureInputs, draw_forest, make_empty_figure

SECTION, ORDER = "features", 120
CAPTION = (
    "Linear probes (Alain and Bengio 2017): R² of ridge regression on each encoder's mean output and on the fused"
    " vector, learnt on the training clips, with 95 % intervals over videos, next to the model's own R². In brackets:"
    " width of the vector. If an encoder reaches the R² of the fused vector, the others add little."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    if results.probes.empty:
        return make_empty_figure(
            "no probe: its penalty is chosen on validation clips, and the corpus has no validation clips"
        )
    scores = results.scores[(results.scores["subset"] == "all") & (results.scores["score"] == "r2")]
    model = scores[scores["predictor"] == "model"].rename(columns={"value": "r2"}).assign(features="the model")
    probes = results.probes.assign(features=[f"{row.features} ({row.width})" for row in results.probes.itertuples()])
    bounds = {target: ceilings.find(results.scores, "r2", target) for target in ("mean", *group.columns)}
    table = pd.concat([probes, model])
    return draw_forest(table, "features", "r2", group, "R² (in brackets: width of the vector)", bounds)


def describe(results: FigureInputs, group: TargetGroup) -> str:
    """Return explanations of "as loaded" and of the ceilings, as far as the figure has them."""
    if results.probes.empty:
        return ""
    is_loaded = results.probes["features"].str.endswith("as loaded").any()
    text = "As loaded: the encoder before training; the difference to the trained encoder is the gain of training it."
    bound = f"Dashed: {ceilings.LABEL}." if ceilings.explain(results.scores) else ""
    return f"{text if is_loaded else ''} {bound}".strip()
