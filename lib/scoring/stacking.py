"""Stacked regressions (Wolpert 1992; Breiman 1996): ridge, and boosted trees, on all vectors together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.scoring import trees as boosted

FOLDS = 5
PENALTIES = np.logspace(0, 6, 13)
STACKED_RIDGE, STACKED_RIDGE_LOOKUP, TREES = "stacked_ridge", "stacked_ridge_and_video_lookup", "boosted_trees"
LIMIT = 3.0
"""Ridge clips each input to this number of standard deviations around its training mean.

A bound in deviations changes nothing for an input with two values, because inputs are standardised afterwards. Quantiles
would make a rare word constant.
"""
SHRINKAGE = 30
"""Number of clips whose evidence equals that of the prior, which is that the best part alone is the best stack."""
STRENGTHS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)  # clips


class Ridge(NamedTuple):
    """A fitted ridge regression of K targets on D numbers.

    low, high (D,): limits to which the numbers are clipped. mean, std (D,): of the clipped numbers; infinite std for a
    constant. coefficients (D, K): of standardised numbers. level (K,): the prediction for the mean.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    coefficients: np.ndarray
    level: np.ndarray


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


def predict_stacked(
    training: pd.DataFrame,
    test: pd.DataFrame,
    columns: Sequence[str],
    vectors: Mapping[str, pd.DataFrame],
    trees: bool = False,
) -> dict[str, np.ndarray]:
    """Return predictions (N, K) for the test clips, by name; none with fewer than two regressions or FOLDS videos.

    A regression is ridge on one of `vectors` (a row for each clip, by name; clips may be missing) or, with `trees`, TREES:
    gradient boosted trees (Friedman 2001) on all vectors of at most a thousand numbers. STACKED_RIDGE: for each column, the
    sum of the regressions with weights that `fit_weights` fits to their out-of-fold predictions. Folds are of training
    clips; no video is in two folds. They choose every penalty by the lowest mean absolute error. STACKED_RIDGE_LOOKUP adds a
    look-up of the video, not of the clip: the mean out-of-fold residual of the video's training clips, for a training clip
    that of the others, shrunk towards 0 by n / (n + k).
    """
    training = training[training[list(columns)].notna().any(axis=1)]
    videos = training["video"].to_numpy()
    tables = {name: table for name, table in vectors.items() if training["clip"].isin(table.index).any()}
    small = [*select_tree_inputs(tables).values()] if trees else []
    if len(tables) + bool(small) < 2 or len(set(videos)) < FOLDS:
        return {}
    targets, folds = training[list(columns)].to_numpy(float), assign_folds(videos)
    regressions = [_fit_ridge(training, test, targets, folds, table) for table in tables.values()]
    if small:
        regressions.append(_fit_trees(training, test, targets, folds, small))
    inside, outside = zip(*regressions, strict=True)
    parts, out_of_fold = np.stack(inside), np.empty_like(targets)
    for fold in range(FOLDS):
        held_out = folds == fold
        out_of_fold[held_out] = fit_weights(parts[:, ~held_out], targets[~held_out]).combine(parts[:, held_out])
    predicted = fit_weights(parts, targets).combine(np.stack(outside))
    corrections = _look_up(targets - out_of_fold, videos, test["video"])
    alone = {TREES: outside[-1]} if small else {}
    return alone | {STACKED_RIDGE: predicted, STACKED_RIDGE_LOOKUP: predicted + corrections}


def assign_folds(videos: np.ndarray) -> np.ndarray:
    """Return the fold (N,) of each clip: all clips of a video are in one, folds have about the same number of clips."""
    from sklearn.model_selection import GroupKFold  # it takes a second to load

    folds = np.zeros(len(videos), int)
    for number, (_, members) in enumerate(GroupKFold(FOLDS).split(videos, groups=videos)):
        folds[members] = number
    return folds


def predict_out_of_fold(
    inputs: np.ndarray, present: np.ndarray, targets: np.ndarray, folds: np.ndarray, limit: float = LIMIT
) -> np.ndarray:
    """Return for each of PENALTIES the predictions (P, N, K) for each clip, by ridge that was fitted on the other folds.

    inputs (N, D) count for the clips that are `present` (N,); all others get the mean. targets (N, K) are NaN where unknown.
    limit: as in `predict_ridges`.
    """
    predicted = np.full((len(PENALTIES), *targets.shape), np.nan)
    for fold in range(FOLDS):
        fitted, held_out = folds != fold, folds == fold
        predicted[:, held_out & present] = predict_ridges(
            inputs[fitted & present], targets[fitted & present], inputs[held_out & present], limit=limit
        )
        predicted[:, held_out] = fill_with_mean(predicted[:, held_out], targets[fitted])
    return predicted


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


def _look_up(residuals: np.ndarray, videos: np.ndarray, test_videos: pd.Series) -> np.ndarray:
    """Return each test clip's correction (M, K): the mean residual (N, K) of its video's training clips, shrunk towards 0.

    The strength has the lowest mean absolute error on the training clips, each corrected by the others of its video.
    """
    table = pd.DataFrame(residuals)
    by_video = table.groupby(videos)
    count, total = (by_video.transform(name).to_numpy() for name in ("count", "sum"))
    others, rest = count - table.notna().to_numpy(), total - table.fillna(0).to_numpy()
    errors = [np.nanmean(np.abs(residuals - rest / (others + k))) for k in STRENGTHS]
    strength = STRENGTHS[int(np.argmin(errors))]
    count, total = (getattr(by_video, name)().reindex(test_videos).fillna(0).to_numpy() for name in ("count", "sum"))
    return total / (count + strength)


def _fit_ridge(
    training: pd.DataFrame, test: pd.DataFrame, targets: np.ndarray, folds: np.ndarray, vectors: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of ridge on `vectors` for the training clips, out of fold, and for the test clips."""
    (inputs, present), (test_inputs, test_present) = (
        (vectors.reindex(table["clip"]).to_numpy(float), table["clip"].isin(vectors.index).to_numpy())
        for table in (training, test)
    )
    out_of_fold, penalty = choose_penalty(inputs, present, targets, folds)
    predicted = np.full((len(test), targets.shape[1]), np.nan)
    predicted[test_present] = predict_ridges(
        inputs[present], targets[present], test_inputs[test_present], np.array([penalty])
    )[0]
    return out_of_fold, fill_with_mean(predicted, targets)


def choose_penalty(
    inputs: np.ndarray, present: np.ndarray, targets: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the out-of-fold predictions (N, K) with the lowest mean absolute error, and their penalty.

    Arguments as for `predict_out_of_fold`.
    """
    predicted = predict_out_of_fold(inputs, present, targets, folds)
    best = _best(predicted, targets)
    return predicted[best], float(PENALTIES[best])


def _fit_trees(
    training: pd.DataFrame, test: pd.DataFrame, targets: np.ndarray, folds: np.ndarray, vectors: Sequence[pd.DataFrame]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of trees on all `vectors` for the training clips, out of fold, and for the test clips."""
    inputs, test_inputs = (
        np.hstack([vector.reindex(table["clip"]).to_numpy(float) for vector in vectors]) for table in (training, test)
    )
    out_of_fold, models = boosted.fit_trees(inputs, targets, folds)
    predicted = boosted.predict_trees(models, test_inputs)
    return fill_with_mean(out_of_fold, targets), fill_with_mean(predicted, targets)


def select_tree_inputs(vectors: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the vectors that trees read: those of at most a thousand numbers."""
    return {name: table for name, table in vectors.items() if table.shape[1] <= boosted.WIDEST}


def _best(predicted: np.ndarray, targets: np.ndarray) -> int:
    """Return the index of the penalty with the lowest mean absolute error."""
    return int(np.nanargmin([np.nanmean(np.abs(array - targets)) for array in predicted]))


def fill_with_mean(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return predictions (..., K) with NaN replaced by the mean of the known targets, or by 0 if none is known."""
    labelled = np.isfinite(targets)
    mean = np.where(labelled, targets, 0).sum(0) / np.maximum(labelled.sum(0), 1)
    return np.where(np.isnan(predicted), mean, predicted)


def predict_ridges(
    inputs: np.ndarray,
    targets: np.ndarray,
    new_inputs: np.ndarray,
    penalties: np.ndarray = PENALTIES,
    limit: float = LIMIT,
) -> np.ndarray:
    """Return for each penalty the predictions (P, M, K) of ridge on standardised inputs (N, D) for `new_inputs` (M, D).

    Inputs are clipped to `limit` standard deviations around the mean of `inputs`. A column without labels is NaN. Columns
    with labels in the same rows are fitted at once.
    """
    predicted = np.full((len(penalties), len(new_inputs), targets.shape[1]), np.nan)
    for rows, columns in _group_columns(targets):
        filled = _fill(inputs[rows])
        scaler = _fit_scaler(filled, limit)
        x, z = _standardise(filled, scaler), _standardise(new_inputs, scaler)
        y, level = _centre(targets[np.ix_(rows, columns)])
        is_wide = x.shape[1] > x.shape[0]
        factor = z @ x.T if is_wide else z
        for index, weights in enumerate(_solve(x, y, penalties)):
            predicted[index][:, columns] = factor @ weights + level
    return predicted


def fit_ridge(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> Ridge:
    """Return the ridge regression of targets (N, K), NaN where unknown, on inputs (N, D), NaN where missing.

    All columns share the inputs' limits, means and deviations over the clips with any label. A column without labels has
    coefficients of 0.
    """
    inputs, targets = (array[np.isfinite(targets).any(1)] for array in (inputs, targets))
    inputs = _fill(inputs)
    scaler = _fit_scaler(inputs, LIMIT)
    coefficients, levels = np.zeros((inputs.shape[1], targets.shape[1])), np.zeros(targets.shape[1])
    for rows, columns in _group_columns(targets):
        x, (y, level) = _standardise(inputs[rows], scaler), _centre(targets[np.ix_(rows, columns)])
        centre = x.mean(0)
        x = x - centre
        (weights,) = _solve(x, y, np.array([penalty]))
        coefficients[:, columns] = x.T @ weights if x.shape[1] > x.shape[0] else weights
        levels[columns] = level - centre @ coefficients[:, columns]
    return Ridge(*scaler, coefficients, levels)


def _group_columns(targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows (N,) that have labels, and the columns (K,) with labels in these rows, for each set of rows."""
    labelled = np.isfinite(targets)
    for rows in np.unique(labelled, axis=1).T:
        if rows.any():
            yield rows, (labelled == rows[:, None]).all(0)


def _centre(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return targets (N, K) minus their mean (K,), and the mean."""
    level = targets.mean(0)
    return targets - level, level


def _solve(x: np.ndarray, y: np.ndarray, penalties: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for each penalty the weights of ridge: (D, K) of the numbers x (N, D), or (N, K) of the rows if D > N."""
    from scipy.linalg import solve  # slow, and reports import the names of this module

    is_wide = x.shape[1] > x.shape[0]
    gram, right = (x @ x.T, y) if is_wide else (x.T @ x, x.T @ y)
    for penalty in penalties:
        yield solve(gram + penalty * np.eye(len(gram)), right, assume_a="pos")


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
    return np.where(np.isnan(inputs), fill_with_mean(np.full(inputs.shape[1], np.nan), inputs), inputs)
