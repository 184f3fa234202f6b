"""Stacked regressions (Wolpert 1992; Breiman 1996): the weights of their sum."""

from typing import NamedTuple

import numpy as np

from lib.regression.ridge import fill_with_mean

SHRINKAGE = 30
"""Number of clips whose evidence equals that of the prior, which is that the best part alone is the best stack."""


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
    return Weights(weights, centres, fill_with_mean(np.full(targets.shape[1], np.nan), targets))
