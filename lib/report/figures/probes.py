"""R² of a linear probe of each encoder's output and of the fused vector, beside the model's own."""

import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import Results, forest, nothing

SECTION, ORDER = "features", 120
CAPTION = (
    "What each encoder's output, the mean of its tokens, and the fused vector tell of each target: R² of ridge learnt on the"
    " training clips (a linear probe, Alain and Bengio 2017), with 95 % intervals over videos, beside the model's own. An"
    " encoder that tells of a target as much as the fused vector carries it alone. As loaded: the encoder with the weights"
    " that it began with, frozen; what the trained one tells more is what training it was worth."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    if results.probes.empty:
        return nothing("no probe: validation clips choose its penalty, and there are none")
    scores = results.scores[(results.scores["subset"] == "all") & (results.scores["score"] == "r2")]
    own = scores[scores["predictor"] == "model"].rename(columns={"value": "r2"}).assign(features="the model")
    probes = results.probes.assign(features=[f"{row.features} ({row.width})" for row in results.probes.itertuples()])
    return forest(pd.concat([probes, own]), "features", "r2", group, "R² (in brackets: numbers that are read)")
