"""Ridge regression of several targets on vectors with missing numbers: predictions, and those out of fold."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

FOLDS = 5
PENALTIES = np.logspace(0, 6, 13)
LIMIT = 3.0
"""Ridge clips each input to this number of standard deviations around its training mean.

A bound in deviations changes nothing for an input with two values, because inputs are standardised afterwards. Quantiles
would make a rare word constant.
"""


def assign_folds(videos: np.ndarray) -> np.ndarray:
    """Return the fold (N,) of each clip: all clips of a video are in one, folds have about the same number of clips."""
    from sklearn.model_selection import GroupKFold  # it takes a second to load

    folds = np.zeros(len(videos), int)
    for number, (_, members) in enumerate(GroupKFold(FOLDS).split(videos, groups=videos)):
        folds[members] = number
    return folds


class Ridge(NamedTuple):
    """Ridge regressions of the C of K targets that have labels for the same training clips, for P penalties.

    columns (K,): marks the C targets. low, high (D,): limits to which the numbers are clipped. mean, std (D,): of the
    clipped numbers; infinite std for a constant. coefficients (P, D, C): of standardised numbers. level (C,): the prediction
    for the mean.
    """

    columns: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    coefficients: np.ndarray
    level: np.ndarray

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return the predictions (P, M, C) for inputs (M, D)."""
        return _standardise(inputs, self[1:5]) @ self.coefficients + self.level


def predict_out_of_fold(inputs: np.ndarray, targets: np.ndarray, folds: np.ndarray, limit: float = LIMIT) -> np.ndarray:
    """Return for each of PENALTIES the predictions (P, N, K) for each clip, by ridge that was fitted on the other folds.

    inputs (N, D): NaN where missing; clips without any number get the mean. targets (N, K): NaN where unknown. limit: as in
    `fit_ridges`.
    """
    present = has_numbers(inputs)
    predicted = np.full((len(PENALTIES), *targets.shape), np.nan)
    for fold in range(FOLDS):
        fitted, held_out = folds != fold, folds == fold
        predicted[:, held_out & present] = predict_ridges(
            inputs[fitted & present], targets[fitted & present], inputs[held_out & present], limit=limit
        )
        predicted[:, held_out] = fill_with_mean(predicted[:, held_out], targets[fitted])
    return predicted


def choose_penalty(inputs: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the out-of-fold predictions (N, K) with the lowest mean absolute error, and their penalty.

    Arguments as for `predict_out_of_fold`.
    """
    predicted = predict_out_of_fold(inputs, targets, folds)
    best = _best(predicted, targets)
    return predicted[best], float(PENALTIES[best])


def _best(predicted: np.ndarray, targets: np.ndarray) -> int:
    """Return the index of the penalty with the lowest mean absolute error."""
    return int(np.nanargmin([np.nanmean(np.abs(array - targets)) for array in predicted]))


def has_numbers(inputs: np.ndarray) -> np.ndarray:
    """Return for each clip whether any of its inputs (N, D) is not missing: (N,) bool."""
    return ~np.isnan(inputs).all(1)


def fill_with_mean(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return predictions (..., K) with NaN replaced by `average_known(targets)`."""
    return np.where(np.isnan(predicted), average_known(targets), predicted)


def average_known(values: np.ndarray) -> np.ndarray:
    """Return the mean (K,) of the known values (N, K) of each column, NaN where unknown; 0 if none is known."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)


def predict_ridges(
    inputs: np.ndarray,
    targets: np.ndarray,
    new_inputs: np.ndarray,
    penalties: np.ndarray = PENALTIES,
    limit: float = LIMIT,
) -> np.ndarray:
    """Return for each penalty the predictions (P, M, K) of `fit_ridges(inputs, targets)` for `new_inputs` (M, D).

    A column without labels is NaN.
    """
    predicted = np.full((len(penalties), len(new_inputs), targets.shape[1]), np.nan)
    for ridge in fit_ridges(inputs, targets, penalties, limit):
        predicted[..., ridge.columns] = ridge.predict(new_inputs)
    return predicted


def fit_ridges(
    inputs: np.ndarray, targets: np.ndarray, penalties: np.ndarray = PENALTIES, limit: float = LIMIT
) -> list[Ridge]:
    """Return ridge regressions of targets (N, K), NaN where unknown, on inputs (N, D), NaN where missing.

    A target is fitted to the clips that have its label. The inputs' means, deviations and limits, `limit` standard
    deviations around the mean, are those of these clips. Targets with labels for the same clips share one `Ridge`; a target
    without labels is in none.
    """
    ridges = []
    for rows, columns in _group_columns(targets):
        filled = _fill(inputs[rows])
        scaler = _fit_scaler(filled, limit)
        labels = targets[np.ix_(rows, columns)]
        level = labels.mean(0)
        coefficients = np.stack([*_solve(_standardise(filled, scaler), labels - level, penalties)])
        ridges.append(Ridge(columns, *scaler, coefficients, level))
    return ridges


def _group_columns(targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows (N,) that have labels, and the columns (K,) with labels in these rows, for each set of rows."""
    labelled = np.isfinite(targets)
    for rows in np.unique(labelled, axis=1).T:
        if rows.any():
            yield rows, (labelled == rows[:, None]).all(0)


def _solve(x: np.ndarray, y: np.ndarray, penalties: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for each penalty the coefficients (D, K) of ridge of targets y (N, K) on numbers x (N, D)."""
    from scipy.linalg import solve  # slow, and reports import this module's constants

    is_wide = x.shape[1] > x.shape[0]
    gram, right = (x @ x.T, y) if is_wide else (x.T @ x, x.T @ y)
    for penalty in penalties:
        weights = solve(gram + penalty * np.eye(len(gram)), right, assume_a="pos")
        yield x.T @ weights if is_wide else weights


_Scaler = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""low, high, mean, std (D,) as in `Ridge`."""


def _fit_scaler(inputs: np.ndarray, limit: float) -> _Scaler:
    """Return the limits of inputs (N, D), `limit` standard deviations around the mean, and mean and std inside them."""
    mean, std = inputs.mean(0), inputs.std(0)
    low, high = mean - limit * std, mean + limit * std
    inputs = inputs.clip(low, high)
    mean, std = inputs.mean(0), inputs.std(0)
    return low, high, mean, np.where(std > 1e-9 * (1 + np.abs(mean)), std, np.inf)  # a constant has no information


def _standardise(inputs: np.ndarray, scaler: _Scaler) -> np.ndarray:
    """Return inputs (N, D), clipped and standardised. Constants and missing numbers (NaN) become 0."""
    low, high, mean, std = scaler
    standardised = (inputs.clip(low, high) - mean) / std
    return np.nan_to_num(standardised) if np.isnan(inputs).any() else standardised


def _fill(inputs: np.ndarray) -> np.ndarray:
    """Return inputs (N, D) with missing numbers (NaN) replaced by the mean of the number."""
    if not np.isnan(inputs).any():
        return inputs
    return fill_with_mean(inputs, inputs)
