"""Stacked regressions (Wolpert 1992; Breiman 1996): what ridge, and boosted trees, read in all vectors together."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.linalg import solve
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

FOLDS = 5
PENALTIES = np.logspace(0, 6, 13)
STACKED, STACKED_LOOKUP, TREES = "stacked_ridge", "stacked_ridge_and_video_lookup", "boosted_trees"
STRENGTHS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)  # clips
_MOST = 1000  # numbers of a vector that trees read
_TREES = {
    "learning_rate": 0.05, "max_iter": 150, "max_leaf_nodes": 8, "min_samples_leaf": 30, "l2_regularization": 10.0,
    "max_features": 0.3, "early_stopping": False, "random_state": 0,
}  # fmt: skip


def predict_stacked(
    training: pd.DataFrame,
    test: pd.DataFrame,
    columns: Sequence[str],
    vectors: Mapping[str, pd.DataFrame],
    trees: bool = False,
) -> dict[str, np.ndarray]:
    """Return predictions (N, K) for the test clips, by name; none where there are fewer than two readings or FOLDS videos.

    A reading is ridge on one of `vectors` (a row a clip, by name; clips may lack) or, with `trees`, TREES: gradient boosted
    trees (Friedman 2001) on all that have at most a thousand numbers. STACKED: ridge on what the readings predict of the
    training clips out of fold. All folds are of training clips, no video in two; by them, mean absolute error chooses every
    penalty. STACKED_LOOKUP adds a look-up: the mean residual (out of fold) of the video's training clips, of which a
    training clip knows the others', drawn towards 0 as n / (n + k). It knows the video, not the clip.
    """
    training = training[training[list(columns)].notna().any(axis=1)]
    of_video = training["video"].to_numpy()
    known = [table for table in vectors.values() if training["clip"].isin(table.index).any()]
    small = [table for table in known if table.shape[1] <= _MOST] if trees else []
    if len(known) + bool(small) < 2 or len(set(of_video)) < FOLDS:
        return {}
    targets, folds = training[list(columns)].to_numpy(float), assign_folds(of_video)
    readings = [_read(training, test, targets, folds, table) for table in known]
    if small:
        readings.append(_grown(training, test, targets, folds, small))
    inside, outside = zip(*readings, strict=True)
    every = np.ones(len(training), bool)
    of_training = predict_out_of_fold(np.hstack(inside), every, targets, folds)
    best = _best(of_training, targets)
    predicted = _ridges(np.hstack(inside), targets, np.hstack(outside), PENALTIES[[best]])[0]
    predicted = _or_mean(predicted, targets)
    residuals = pd.DataFrame(targets - of_training[best])
    grouped = residuals.groupby(of_video)
    count, total = (grouped.transform(what).to_numpy() for what in ("count", "sum"))
    others, rest = count - residuals.notna().to_numpy(), total - residuals.fillna(0).to_numpy()
    errors = [np.nanmean(np.abs(residuals.to_numpy() - rest / (others + k))) for k in STRENGTHS]
    strength = STRENGTHS[int(np.argmin(errors))]
    count, total = (getattr(grouped, what)().reindex(test["video"]).fillna(0).to_numpy() for what in ("count", "sum"))
    found = {TREES: outside[-1]} if small else {}
    return found | {STACKED: predicted, STACKED_LOOKUP: predicted + total / (count + strength)}


def assign_folds(videos: np.ndarray) -> np.ndarray:
    """Return the fold (N,) of each clip: all clips of a video are in one, folds have about as many clips."""
    folds = np.zeros(len(videos), int)
    for number, (_, members) in enumerate(GroupKFold(FOLDS).split(videos, groups=videos)):
        folds[members] = number
    return folds


def predict_out_of_fold(inputs: np.ndarray, there: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
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
    of_training = predict_out_of_fold(inputs, there, targets, folds)
    best = _best(of_training, targets)
    predicted = np.full((len(test), targets.shape[1]), np.nan)
    predicted[test_there] = _ridges(inputs[there], targets[there], of_test[test_there], PENALTIES[[best]])[0]
    return of_training[best], _or_mean(predicted, targets)


def _grown(
    training: pd.DataFrame, test: pd.DataFrame, targets: np.ndarray, folds: np.ndarray, vectors: Sequence[pd.DataFrame]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what trees on `vectors`, joined, predict of the training clips, out of fold, and of the test clips."""
    inputs, of_test = (
        np.hstack([one.reindex(table["clip"]).to_numpy(float) for one in vectors]) for table in (training, test)
    )
    of_training, predicted = np.full(targets.shape, np.nan), np.full((len(test), targets.shape[1]), np.nan)
    known = np.isfinite(targets)
    fits = [(column, fold) for column in np.flatnonzero(known.any(0)) for fold in range(-1, FOLDS)]
    for column, fold in tqdm(fits, desc="boosted trees", unit="fit", disable=None):
        left = folds == fold
        learnt = known[:, column] & ~left  # of fold -1 there is no clip: it is learnt from all
        if learnt.any():
            model = HistGradientBoostingRegressor(**_TREES).fit(inputs[learnt], targets[learnt, column])
            if fold < 0:
                predicted[:, column] = model.predict(of_test)
            else:
                of_training[left, column] = model.predict(inputs[left])
    return _or_mean(of_training, targets), _or_mean(predicted, targets)


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
