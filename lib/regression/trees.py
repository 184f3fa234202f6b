"""Gradient boosted trees (Friedman 2001) for several targets, with out-of-fold predictions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:  # it takes a second to load
    from sklearn.ensemble import HistGradientBoostingRegressor

WIDEST = 1000
"""Trees do not use wider vectors."""
_OPTIONS = {
    "learning_rate": 0.05, "max_iter": 150, "max_leaf_nodes": 8, "min_samples_leaf": 30, "l2_regularization": 10.0,
    "max_features": 0.3, "early_stopping": False, "random_state": 0,
}  # fmt: skip


class TargetTrees(NamedTuple):
    """The trees of one target, and the positions of the numbers that they read: those with a value in training."""

    model: "HistGradientBoostingRegressor"
    numbers: np.ndarray

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return the predictions (M,) for inputs (M, D)."""
        return self.model.predict(inputs[:, self.numbers])


def fit_target(inputs: np.ndarray, target: np.ndarray) -> TargetTrees:
    """Return trees that are fitted to inputs (N, D), NaN where missing, and a target (N,)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    numbers = np.flatnonzero(~np.isnan(inputs).all(0))
    return TargetTrees(HistGradientBoostingRegressor(**_OPTIONS).fit(inputs[:, numbers], target), numbers)


def fit_trees(
    inputs: np.ndarray, targets: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, list[TargetTrees | None]]:
    """Return out-of-fold predictions (N, K), and for each target the trees that learn from all clips.

    inputs (N, D): NaN where missing. targets (N, K): NaN where unknown; a target without labels has no trees, and
    predictions of NaN. folds (N,): the number of each clip's fold, from 0.
    """
    out_of_fold = np.full(targets.shape, np.nan)
    models: list[TargetTrees | None] = [None] * targets.shape[1]
    labelled = np.isfinite(targets)
    fits = [(column, fold) for column in np.flatnonzero(labelled.any(0)) for fold in range(-1, folds.max() + 1)]
    for column, fold in tqdm(fits, desc="boosted trees", unit="fit", disable=None):
        held_out = folds == fold  # none for fold -1, whose trees learn from all clips
        fitted = labelled[:, column] & ~held_out
        if fitted.any():
            trees = fit_target(inputs[fitted], targets[fitted, column])
            if fold < 0:
                models[column] = trees
            elif held_out.any():
                out_of_fold[held_out, column] = trees.predict(inputs[held_out])
    return out_of_fold, models


def predict_trees(models: Sequence[TargetTrees | None], inputs: np.ndarray) -> np.ndarray:
    """Return the predictions (M, K) for inputs (M, D); NaN for a target without trees."""
    predicted = np.full((len(inputs), len(models)), np.nan)
    for column, trees in enumerate(models):
        if trees is not None and len(inputs):
            predicted[:, column] = trees.predict(inputs)
    return predicted
