"""Stacked regressions (Wolpert 1992; Breiman 1996): ridge and boosted trees on several inputs, and their weights."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lib.regression.ridge import Ridge, average_known, choose_penalty, fill_with_mean, fit_ridges, has_numbers
from lib.regression.trees import WIDEST, TargetTrees, fit_trees, predict_trees

SHRINKAGE = 30
"""Number of clips whose evidence equals that of the prior, which is that the best part alone is the best stack."""


class Parts(NamedTuple):
    """The regressions of a stack, which are fitted to all clips, and their out-of-fold predictions.

    ridges: on each of several inputs. trees: of each target, none without trees. level (K,): the mean of the labels, which a
    ridge regression predicts for a clip without any of its inputs. out_of_fold (R, N, K): of all parts, that of trees last.
    """

    ridges: list[list[Ridge]]
    trees: list[TargetTrees | None]
    level: np.ndarray
    out_of_fold: np.ndarray

    def predict(self, inputs: Iterable[np.ndarray]) -> np.ndarray:
        """Return the predictions (R, M, K) of all parts for new clips, given the inputs (M, D) of each ridge regression."""
        predicted, narrow = [], []
        for ridges, array in zip(self.ridges, inputs, strict=True):
            present, values = has_numbers(array), np.full((len(array), len(self.level)), np.nan)
            for ridge in ridges:
                values[np.ix_(present, ridge.columns)] = ridge.predict(array[present])[0]
            predicted.append(values)
            if array.shape[1] <= WIDEST:
                narrow.append(array)
        if self.trees:
            predicted.append(predict_trees(self.trees, np.hstack(narrow)))
        return np.where(np.isnan(predicted), self.level, predicted)


class Weights(NamedTuple):
    """A weighted sum of R predictions of K targets.

    weights (R, K): of the predictions' distances from `centres` (R, K). level (K,): is added to the sum.
    """

    weights: np.ndarray
    centres: np.ndarray
    level: np.ndarray

    def combine(self, parts: np.ndarray) -> np.ndarray:
        """Return the weighted sums (M, K) of predictions (R, M, K)."""
        return np.einsum("rmk,rk->mk", parts - self.centres[:, None], self.weights) + self.level


def fit_parts(inputs: Iterable[np.ndarray], targets: np.ndarray, folds: np.ndarray, trees: bool = False) -> Parts:
    """Return a ridge regression of targets (N, K), NaN where unknown, on each of `inputs` (N, D), NaN where missing.

    With `trees`, boosted trees on all inputs of up to WIDEST numbers are another part. folds (N,): of `assign_folds`. They
    choose the penalties (`choose_penalty`).
    """
    ridges, out_of_fold, narrow = [], [], []
    for array in inputs:
        predicted, penalty = choose_penalty(array, targets, folds)
        present = has_numbers(array)
        ridges.append(fit_ridges(array[present], targets[present], np.array([penalty])))
        out_of_fold.append(predicted)
        if trees and array.shape[1] <= WIDEST:
            narrow.append(array)
    models: list[TargetTrees | None] = []
    if narrow:
        predicted, models = fit_trees(np.hstack(narrow), targets, folds)
        out_of_fold.append(fill_with_mean(predicted, targets))
    return Parts(ridges, models, average_known(targets), np.stack(out_of_fold))


def fit_weights(parts: np.ndarray, targets: np.ndarray) -> Weights:
    """Return the weights that predict targets (N, K), NaN where unknown, from out-of-fold predictions (R, N, K).

    For each column the weights are non-negative (Breiman 1996). They minimise the squared error plus SHRINKAGE times the
    mean variance of the parts times the squared distance to weights that select the best part alone.
    """
    from scipy.optimize import nnls  # it takes half a second to load

    shape = len(parts), targets.shape[1]
    weights, centres = np.zeros(shape), np.zeros(shape)
    for column, target in enumerate(targets.T):
        is_labelled = np.isfinite(target)
        if not is_labelled.any():
            continue
        inputs, y = parts[:, is_labelled, column].T, target[is_labelled]
        best = np.square(inputs - y[:, None]).sum(0).argmin()
        strength = np.sqrt(SHRINKAGE * inputs.var(0).mean())
        rows = np.vstack([inputs - inputs.mean(0), strength * np.eye(len(parts))])
        weights[:, column] = nnls(rows, np.concatenate([y - y.mean(), strength * np.eye(len(parts))[best]]))[0]
        centres[:, column] = inputs.mean(0)
    return Weights(weights, centres, average_known(targets))
