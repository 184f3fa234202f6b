"""Stacked ridge regressions (Wolpert 1992; Breiman 1996): what a linear reading of all vectors together reaches."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.linalg import solve
from sklearn.model_selection import GroupKFold

FOLDS = 5
PENALTIES = np.logspace(0, 6, 13)
_STRENGTHS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)  # clips


def stacked(
    training: pd.DataFrame, test: pd.DataFrame, columns: Sequence[str], vectors: Mapping[str, pd.DataFrame]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return two predictions (N, K) for the test clips, None where there are fewer than two vectors or FOLDS videos.

    The first: ridge on each of `vectors` (a row a clip, by name; clips may lack), and ridge on what these predict of the
    training clips out of fold. All folds are of training clips, no video in two; by them, mean absolute error chooses every
    penalty. The second adds a look-up: the mean residual (out of fold) of the video's training clips, of which a training
    clip knows the others', drawn towards 0 as n / (n + k). It knows the video, not the clip.
    """
    training = training[training[list(columns)].notna().any(axis=1)]
    of_video = training["video"].to_numpy()
    known = [table for table in vectors.values() if training["clip"].isin(table.index).any()]
    if len(known) < 2 or len(set(of_video)) < FOLDS:
        return None
    targets, folds = training[list(columns)].to_numpy(float), folds_of(of_video)
    inside, outside = zip(*(_read(training, test, targets, folds, table) for table in known), strict=True)
    every = np.ones(len(training), bool)
    of_training = out_of_fold(np.hstack(inside), every, targets, folds)
    best = _best(of_training, targets)
    predicted = _ridges(np.hstack(inside), targets, np.hstack(outside), PENALTIES[[best]])[0]
    predicted = _or_mean(predicted, targets)
    residuals = pd.DataFrame(targets - of_training[best])
    grouped = residuals.groupby(of_video)
    count, total = (grouped.transform(what).to_numpy() for what in ("count", "sum"))
    others, rest = count - residuals.notna().to_numpy(), total - residuals.fillna(0).to_numpy()
    errors = [np.nanmean(np.abs(residuals.to_numpy() - rest / (others + k))) for k in _STRENGTHS]
    strength = _STRENGTHS[int(np.argmin(errors))]
    count, total = (getattr(grouped, what)().reindex(test["video"]).fillna(0).to_numpy() for what in ("count", "sum"))
    return predicted, predicted + total / (count + strength)


def folds_of(videos: np.ndarray) -> np.ndarray:
    """Return the fold (N,) of each clip: all clips of a video are in one, folds have about as many clips."""
    folds = np.zeros(len(videos), int)
    for number, (_, members) in enumerate(GroupKFold(FOLDS).split(videos, groups=videos)):
        folds[members] = number
    return folds


def out_of_fold(inputs: np.ndarray, there: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return for each of PENALTIES what ridge, learnt on the other folds, predicts of each clip: (P, N, K).

    inputs (N, D) of the clips that are `there` (N,), targets (N, K), NaN where unknown; the others get the mean.
    """
    predicted = np.full((len(PENALTIES), *targets.shape), np.nan)
    for fold in range(FOLDS):
        learnt, left = folds != fold, folds == fold
        predicted[:, left & there] = _ridges(inputs[learnt & there], targets[learnt & there], inputs[left & there])
        predicted[:, left] = _or_mean(predicted[:, left], targets[learnt])
    return predicted


def _read(
    training: pd.DataFrame, test: pd.DataFrame, targets: np.ndarray, folds: np.ndarray, vectors: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ridge on `vectors` predicts of the training clips, out of fold, and of the test clips."""
    (inputs, there), (of_test, test_there) = (
        (vectors.reindex(table["clip"]).to_numpy(float), table["clip"].isin(vectors.index).to_numpy())
        for table in (training, test)
    )
    of_training = out_of_fold(inputs, there, targets, folds)
    best = _best(of_training, targets)
    predicted = np.full((len(test), targets.shape[1]), np.nan)
    predicted[test_there] = _ridges(inputs[there], targets[there], of_test[test_there], PENALTIES[[best]])[0]
    return of_training[best], _or_mean(predicted, targets)


def _best(predicted: np.ndarray, targets: np.ndarray) -> int:
    """Return the index of the penalty of lowest mean absolute error."""
    return int(np.nanargmin([np.nanmean(np.abs(one - targets)) for one in predicted]))


def _or_mean(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return predictions (..., K) with the mean of the known targets where there is none, 0 where none is known."""
    known = np.isfinite(targets)
    mean = np.where(known, targets, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(np.isnan(predicted), mean, predicted)


def _ridges(inputs: np.ndarray, targets: np.ndarray, of: np.ndarray, penalties: np.ndarray = PENALTIES) -> np.ndarray:
    """Return for each penalty what ridge on standardised inputs (N, D) predicts of `of` (M, D): (P, M, K), NaN for a column
    that no row knows. Columns that the same rows know are learnt at once."""
    predicted = np.full((len(penalties), len(of), targets.shape[1]), np.nan)
    known = np.isfinite(targets)
    for rows in np.unique(known, axis=1).T:
        if not rows.any():
            continue
        columns = (known == rows[:, None]).all(0)
        mean, std = inputs[rows].mean(0), inputs[rows].std(0)
        std = np.where(std > 1e-9 * (1 + np.abs(mean)), std, np.inf)  # a constant tells nothing
        x, z, level = (inputs[rows] - mean) / std, (of - mean) / std, targets[np.ix_(rows, columns)].mean(0)
        y = targets[np.ix_(rows, columns)] - level
        wide = x.shape[1] > x.shape[0]
        gram, right = (x @ x.T, y) if wide else (x.T @ x, x.T @ y)
        left = z @ x.T if wide else z
        for index, penalty in enumerate(penalties):
            weights = solve(gram + penalty * np.eye(len(gram)), right, assume_a="pos")
            predicted[index][:, columns] = left @ weights + level
    return predicted
