"""Reliability diagrams (Murphy and Winkler 1977): mean label against mean prediction, in bins of equal numbers of clips."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import COLOURS, FigureInputs, draw_identity_line, format_title, label_left, make_panels
from lib.report.words import format_range
from lib.scoring.bootstrap import MIN_VIDEOS, Bootstrap, resample, sum_by_video

_BINS = 10
_MIN_CLIPS = 4  # lowest number of clips of a bin, if there are more clips than bins
_BOOTSTRAP = Bootstrap(1000, 0)

SECTION, ORDER = "results", 100
CAPTION = (
    "Reliability diagram: mean label against mean prediction, for up to ten bins with equal numbers of clips, with 95 %"
    " intervals over videos. On the line, predictions are right on average (Murphy and Winkler 1977)."
)


def draw(results: FigureInputs, group: TargetGroup) -> Figure:
    labelled = results.predictions.dropna(subset="actual")
    figure, panels = make_panels(group)
    for target, axes in panels.items():
        rows = labelled[labelled["target"] == target].sort_values("predicted", kind="stable")
        if len(rows):
            bins = _average_bins(rows)
            colour = COLOURS[0]
            axes.plot(bins["predicted"], bins["actual"], "o-", markersize=4, color=colour, clip_on=False)
            axes.vlines(bins["predicted"], bins["low"], bins["high"], color=colour, clip_on=False)
        draw_identity_line(axes, labelled, group, format_title(target, rows, labelled), "mean prediction")
    label_left(panels, f"mean label ({format_range(group)})")
    return figure


def _average_bins(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the means of prediction and label in bins of equal numbers of clips; `rows` are sorted by prediction.

    low and high are the 95 % interval of the mean label by bootstrap over videos, NaN for fewer than MIN_VIDEOS videos.
    """
    count = min(_BINS, max(len(rows) // _MIN_CLIPS, 1)) if len(rows) > _BINS else len(rows)
    numbers = np.arange(len(rows)) * count // len(rows)
    bins = rows.groupby(numbers)[["predicted", "actual"]].mean()
    if rows["video"].nunique() < MIN_VIDEOS:
        return bins.assign(low=np.nan, high=np.nan)
    is_in_bin = numbers[:, None] == np.arange(count)
    values = np.stack([rows["actual"].to_numpy()[:, None] * is_in_bin, is_in_bin], -1)  # (clips, bins, 2)
    sums = resample(sum_by_video(values, rows["video"].to_numpy()), _BOOTSTRAP.resamples, _BOOTSTRAP.rng())
    with np.errstate(invalid="ignore"):
        low, high = np.nanpercentile(sums[..., 0] / sums[..., 1], [2.5, 97.5], axis=0)
    return bins.assign(low=low, high=high)
