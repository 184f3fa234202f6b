"""The reliability of labels, and the weights that it gives them.

A label is the mean of several raters: the raters' consensus plus an error that is independent of everything in the clip. The
reliability is the fraction of the labels' variance that is consensus, ICC(1,k) of Shrout and Fleiss (1979).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.core.targets import RATER_SD, RATERS, TargetGroup


def read_error_variance(clips: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return the variance (N, K) of each label's error, SD² / n, from the columns NAME_sd and NAME_n; NaN where unknown.

    SD: the sample standard deviation between the n raters of a clip. It says nothing with one rater.
    """
    variances = np.full((len(clips), len(columns)), np.nan)
    for index, column in enumerate(columns):
        if {column + RATERS, column + RATER_SD} <= {*clips}:
            count, deviation = clips[column + RATERS].to_numpy(float), clips[column + RATER_SD].to_numpy(float)
            variances[:, index] = np.where(count >= 2, deviation**2, np.nan) / count
    return variances


def estimate_reliability(
    actual: np.ndarray, error_variance: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the reliability (K,) of labels (N, K) by target: 1 - mean error variance / variance of the labels, at least 0.

    With the same number of raters for all clips this is ICC(1,k), by mean squares 1 - MSW / MSB. NaN for a target with fewer
    than two clips that have both numbers, or with constant labels. weights (N, K): of the labels, for weighted scores.
    """
    reliability = np.full(actual.shape[1], np.nan)
    for index, (labels, errors) in enumerate(zip(actual.T, error_variance.T, strict=True)):
        is_labelled = np.isfinite(labels) & np.isfinite(errors)
        labels, errors, count = labels[is_labelled], errors[is_labelled], is_labelled.sum()
        parts = None if weights is None else weights[is_labelled, index]
        if count > 1 and np.ptp(labels) > 0:
            centre = np.average(labels, weights=parts)
            variance = np.average((labels - centre) ** 2, weights=parts) * count / (count - 1)
            reliability[index] = max(1 - np.average(errors, weights=parts) / variance, 0)
    return reliability


def find_reliability(
    actual: np.ndarray, error_variance: np.ndarray | None, target_group: TargetGroup, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the reliability (K,) of each target: the one in the target group's settings, else that of the labels (N, K)."""
    estimated = np.full(len(target_group.columns), np.nan)
    if error_variance is not None:
        estimated = estimate_reliability(actual, error_variance, weights)
    configured = np.array([target_group.reliability.get(column, np.nan) for column in target_group.columns])
    return np.where(np.isfinite(configured), configured, estimated)


def weigh_by_reliability(labels: np.ndarray, error_variance: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    """Weigh a label by the inverse of its variance around what a clip shows, and a target by its reliability; mean 1.

    A label's variance is the variance of the consensus of the raters plus that of the label's error, SD² / n: labels with
    many raters who agree count more (weighted least squares, Aitken 1936). labels, error_variance (N, K): in the same units,
    NaN where unknown; a label with an unknown error has the weight 1 before the target's factor. reliability (K,): NaN where
    it is unknown, with the factor 1. The factors of the known targets have the mean 1.
    """
    weights = np.ones_like(labels)
    for column, (values, errors) in enumerate(zip(labels.T, error_variance.T, strict=True)):
        is_known = np.isfinite(values) & np.isfinite(errors)
        if is_known.sum() > 1 and (variance := values[is_known].var(ddof=1)) > 0:
            consensus = max(variance - errors[is_known].mean(), 0.05 * variance)
            inverse = 1 / (consensus + errors[is_known])
            weights[is_known, column] = inverse / inverse.mean()
    factors = reliability / np.nanmean(reliability) if np.isfinite(reliability).any() else np.ones(labels.shape[1])
    return weights * np.where(np.isfinite(factors), factors, 1)
