"""Scores of targets as present or absent, with intervals by bootstrap over videos."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from lib.core.targets import TargetGroup
from lib.scoring.scores import Bootstrap, estimate_intervals, prepend_mean, sum_by_video

DETECTIONS = ("f1", "macro_f1", "uar", "auc")
"""The scores' names."""


def score_detection(
    actual: np.ndarray,
    predicted: np.ndarray,
    videos: np.ndarray,
    group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for each score and for the mean and each of `group.detect`: score, target, value, low, high; NaN where
    not defined.

    actual and predicted (N, K) of all the group's columns, in the table's units, actual NaN where unknown; videos (N,). A
    target is present where its label is above the range's lower end, and is detected where at least `group.detect_from` of
    the range is predicted. f1 is that of being present; macro_f1 the mean of it and that of being absent; uar, the
    unweighted average recall, the mean of both recalls, which is what papers about MOSEI call weighted accuracy (Zadeh et
    al. 2018); F1 is 0 where nothing is detected nor present, and a recall 0 where there is nothing to recall, as in
    scikit-learn. auc is the area under the ROC curve, not defined where all or none are present; its ranks, with ties in the
    middle, are those among all clips, also in a resample. Intervals as `lib.scoring.scores.score_with_intervals` has them.
    """
    return estimate_intervals(
        sum_by_video(_counts(actual, predicted, group), videos), _from_counts, group.detect, bootstrap
    )


def detection_scores(actual: np.ndarray, predicted: np.ndarray, group: TargetGroup) -> Mapping[str, np.ndarray]:
    """Return {score: (1 + J,)} for arrays (N, K) as in `score_detection`: the mean over `group.detect`, then each of these
    J columns."""
    return _from_counts(_counts(actual, predicted, group).sum(0))


def _counts(actual: np.ndarray, predicted: np.ndarray, group: TargetGroup) -> np.ndarray:
    """Return (N, J, 7), what every score is made from once it is summed over clips; the first is 1 where `actual` is known,
    else all are 0."""
    which = [group.columns.index(column) for column in group.detect]
    actual, predicted = (group.to_unit(values[:, which]) for values in (actual, predicted))
    known = ~np.isnan(actual)
    present, detected = actual > 0, predicted >= group.detect_from
    rank = stats.rankdata(np.where(known, predicted, np.nan), axis=0, nan_policy="omit") / np.maximum(known.sum(0), 1)
    parts = [known, present & detected, ~present & detected, present & ~detected, ~present & ~detected]
    parts += [np.where(present, rank, 0), np.where(present, 0, rank)]
    return np.where(known[..., None], np.stack(parts, -1), 0.0)


def _from_counts(sums: np.ndarray) -> dict[str, np.ndarray]:
    """(..., J, 7) to {score: (..., J + 1)}: the mean over columns, and each."""
    _, hit, false, missed, rejected, rank_present, rank_absent = (sums[..., index] for index in range(7))
    f1, f1_absent = (2 * right / np.maximum(2 * right + false + missed, 1) for right in (hit, rejected))
    recalls = hit / np.maximum(hit + missed, 1), rejected / np.maximum(rejected + false, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = 0.5 + rank_present / (hit + missed) - rank_absent / (rejected + false)
    return prepend_mean(dict(zip(DETECTIONS, (f1, (f1 + f1_absent) / 2, sum(recalls) / 2, auc), strict=True)))
