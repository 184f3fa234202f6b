"""The figures, a module each with `draw`, which returns one matplotlib figure, and the CAPTION that says what to see.

They are drawn from `Results` alone: tables, attention weights, a few clips' samples. A figure more is a module here and a
line in FIGURES.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures import (
    attention_matrix,
    attention_on_the_face,
    attention_over_time,
    clips_used,
    confusion,
    controls,
    deletion,
    error_distribution,
    features_map,
    headline,
    importance_on_the_face,
    importance_over_time,
    learning_curve,
    mean_attention,
    predicted_against_actual,
    probes,
    quantiles,
    reliability,
    residuals,
    robustness,
    samples,
    scores_by_split,
    target_distributions,
)
from lib.report.figures.base import COLOURS as COLOURS
from lib.report.figures.base import Results as Results
from lib.report.figures.base import for_paper as for_paper


class Kind(NamedTuple):
    """A figure's module, the section of the page that it stands in, and the target groups that have one; None: it is drawn
    once a run, by `draw(results)`, else by `draw(results.of(NAME), group)`."""

    module: ModuleType
    section: str
    groups: Callable[[TargetGroup], bool] | None = None


def _every(_: TargetGroup) -> bool:
    return True


def _detected(group: TargetGroup) -> bool:
    return bool(group.detect)


def _shares(group: TargetGroup) -> bool:
    return group.head == "softmax"


FIGURES = {
    "headline": Kind(headline, "headline", _every),
    "clips_used": Kind(clips_used, "data"),
    "target_distributions": Kind(target_distributions, "data", _every),
    "learning_curve": Kind(learning_curve, "results"),
    "scores_by_split": Kind(scores_by_split, "results", _every),
    "predicted_against_actual": Kind(predicted_against_actual, "results", _every),
    "error_distribution": Kind(error_distribution, "results", _every),
    "residuals": Kind(residuals, "results", _every),
    "quantiles": Kind(quantiles, "results", _every),
    "reliability": Kind(reliability, "results", _detected),
    "confusion": Kind(confusion, "results", _shares),
    "probes": Kind(probes, "features", _every),
    "features_map": Kind(features_map, "features", _every),
    "samples": Kind(samples, "samples"),
    "controls": Kind(controls, "needs", _every),
    "importance_on_the_face": Kind(importance_on_the_face, "importance", _every),
    "importance_over_time": Kind(importance_over_time, "importance", _every),
    "deletion": Kind(deletion, "importance", _every),
    "robustness": Kind(robustness, "robustness", _every),
    "mean_attention": Kind(mean_attention, "attention"),
    "attention_over_time": Kind(attention_over_time, "attention"),
    "attention_on_the_face": Kind(attention_on_the_face, "attention"),
    "attention_matrix": Kind(attention_matrix, "attention"),
}
"""By the file's name, in the order of the page."""


def drawn(results: Results, group: TargetGroup | None) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of what is drawn of a target group, whose results these are; None: once a run."""
    for name, kind in FIGURES.items():
        if group is None and kind.groups is None:
            yield name, kind.module.draw(results)
        elif group is not None and kind.groups is not None and kind.groups(group):
            yield name, kind.module.draw(results, group)
