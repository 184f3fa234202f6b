"""The ceilings of R², r and CCC by the labels' reliability, in texts and figures; nothing where it is unknown."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.core.targets import MEAN
from lib.scoring.ceilings import CEILING

LABEL = "ceiling by reliability"
"""The label of ceilings in legends."""
ABOUT = (
    "The ceiling is the highest expected score, given how reliable the labels are: no predictor knows the raters' errors. In"
    " a sample, a score can lie above it."
)
_TITLES = {"r2": "R²", "pearson": "r", "ccc": "CCC"}


def find(scores: pd.DataFrame, score: str, target: str = MEAN, subset: str = "all") -> float:
    """Return a ceiling, NaN if it is unknown; scores: a target group's rows of data/scores.csv."""
    if scores.empty:
        return float("nan")
    chosen = (scores["predictor"] == CEILING) & (scores["subset"] == subset) & (scores["score"] == score)
    values = scores.loc[chosen & (scores["target"] == target), "value"]
    return float(values.iloc[0]) if len(values) else float("nan")


def describe(scores: pd.DataFrame, measures: Iterable[str] = ("r2", "ccc"), subset: str = "all") -> str:
    """Return the ceilings of the means over targets as text, `ceilings R² 0.548 and CCC 0.735`, or ''."""
    values = {_TITLES[score]: find(scores, score, subset=subset) for score in measures}
    listed = [f"{title} {value:.3f}" for title, value in values.items() if np.isfinite(value)]
    return f"{'ceilings' if len(listed) > 1 else 'ceiling'} {' and '.join(listed)}" if listed else ""


def explain(scores: pd.DataFrame) -> str:
    """Return the explanation of the ceilings if one is known, else ''."""
    return ABOUT if len(scores) and (scores["predictor"] == CEILING).any() else ""


def draw(axes: Axes, value: float, vertical: bool = True) -> None:
    """Draw a ceiling as a line, vertical or horizontal; nothing if it is unknown."""
    if np.isfinite(value):
        (axes.axvline if vertical else axes.axhline)(value, color="black", linestyle="--", linewidth=0.8, label=LABEL)


def make_rows(bounds: Mapping[str, np.ndarray], targets: Iterable[str]) -> pd.DataFrame:
    """Return rows for a comparison of predictors (`paired.compare_predictors`): r2 and ccc by target; none if unknown.

    bounds: of `lib.scoring.ceilings.bound_scores`. targets: the mean first.
    """
    rows = pd.DataFrame({"predictor": CEILING, "target": [*targets], "r2": bounds["r2"], "ccc": bounds["ccc"]})
    return rows if rows["r2"].notna().any() else rows[:0]
