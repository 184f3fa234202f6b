"""Scores of targets as present or absent, with bootstrap intervals over videos."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import Bootstrap, estimate_intervals, sum_by_video
from lib.scoring.scores import prepend_mean

DETECTIONS = ("f1", "macro_f1", "weighted_f1", "uar", "auc")
"""Names of the scores."""


def score_detection(
    actual: np.ndarray,
    predicted: np.ndarray,
    videos: np.ndarray,
    target_group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for each score and for the mean and each of `target_group.detect`: score, target, value, low, high;
    NaN if undefined.

    actual and predicted (N, K) have all columns of the target group, in the table's units, actual NaN where unknown; videos
    (N,). A target is present if its label is above the lower end of the range. It is detected if at least
    `target_group.detect_from` of the range is predicted. f1 is the F1 of present targets; macro_f1 the mean of the F1 of
    present and of absent targets; weighted_f1 the same mean, weighted by the numbers of present and of absent targets; uar,
    the unweighted average recall, is the mean of both recalls, which papers about MOSEI call weighted accuracy (Zadeh et
    al. 2018). As in scikit-learn, F1 is 0 if nothing is detected or present, and a recall 0 if there is nothing to recall.
    auc is the area under the ROC curve, undefined if all or none are present. Ties get their middle rank; ranks are those
    among all clips, also in a resample. Intervals are as in `lib.scoring.bootstrap.score_with_intervals`.
    """
    return estimate_intervals(
        sum_by_video(_counts(actual, predicted, target_group), videos), _from_counts, target_group.detect, bootstrap
    )


def detection_scores(actual: np.ndarray, predicted: np.ndarray, target_group: TargetGroup) -> Mapping[str, np.ndarray]:
    """Return {score: (1 + J,)} for arrays (N, K) as in `score_detection`: the mean over `target_group.detect`, then each of
    these J columns."""
    return _from_counts(_counts(actual, predicted, target_group).sum(0))


def _counts(actual: np.ndarray, predicted: np.ndarray, target_group: TargetGroup) -> np.ndarray:
    """Return each clip's terms (N, J, 7) of the sums that scores are computed from; the first counts clips with a label. All
    are 0 without a label."""
    from scipy.stats import rankdata  # it takes half a second to load

    which = [target_group.columns.index(column) for column in target_group.detect]
    actual, predicted = (target_group.to_unit(values[:, which]) for values in (actual, predicted))
    labelled = ~np.isnan(actual)
    present, detected = actual > 0, predicted >= target_group.detect_from
    rank = rankdata(np.where(labelled, predicted, np.nan), axis=0, nan_policy="omit")
    rank = rank / np.maximum(labelled.sum(0), 1)
    parts = [labelled, present & detected, ~present & detected, present & ~detected, ~present & ~detected]
    parts += [np.where(present, rank, 0), np.where(present, 0, rank)]
    return np.where(labelled[..., None], np.stack(parts, -1), 0.0)


def _from_counts(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Return {score: (..., J + 1)}, the mean over columns first, from sums (..., J, 7)."""
    _, hit, false, missed, rejected, rank_present, rank_absent = (sums[..., index] for index in range(7))
    f1, f1_absent = (2 * right / np.maximum(2 * right + false + missed, 1) for right in (hit, rejected))
    recalls = hit / np.maximum(hit + missed, 1), rejected / np.maximum(rejected + false, 1)
    present, absent = hit + missed, rejected + false
    weighted = (present * f1 + absent * f1_absent) / np.maximum(present + absent, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = 0.5 + rank_present / present - rank_absent / absent
    scores = (f1, (f1 + f1_absent) / 2, weighted, sum(recalls) / 2, auc)
    return prepend_mean(dict(zip(DETECTIONS, scores, strict=True)))
