"""Stacked regressions (Wolpert 1992; Breiman 1996): ridge, and boosted trees, on all vectors together."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.linalg import solve
from tqdm import tqdm

FOLDS = 5
PENALTIES = np.logspace(0, 6, 13)
STACKED, STACKED_LOOKUP, TREES = "stacked_ridge", "stacked_ridge_and_video_lookup", "boosted_trees"
LIMIT = 3.0
"""Ridge clips each input to this number of standard deviations around its training mean.

A bound in deviations changes nothing for an input with two values, because inputs are standardised afterwards. Quantiles
would make a rare word constant.
"""
SHRINKAGE = 30
"""Number of clips whose evidence equals that of the prior, which is that the best part alone is the best stack."""
STRENGTHS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)  # clips
_MOST = 1000  # widest vectors that trees use
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
    """Return predictions (N, K) for the test clips, by name; none with fewer than two regressions or FOLDS videos.

    A regression is ridge on one of `vectors` (a row for each clip, by name; clips may be missing) or, with `trees`, TREES:
    gradient boosted trees (Friedman 2001) on all vectors of at most a thousand numbers. STACKED: for each column, the sum of
    the regressions with weights that `_combine` fits to their out-of-fold predictions. Folds are of training clips; no video
    is in two folds. They choose every penalty by the lowest mean absolute error. STACKED_LOOKUP adds a look-up of the video,
    not of the clip: the mean out-of-fold residual of the video's training clips, for a training clip that of the
    others, shrunk towards 0 by n / (n + k).
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
        out_of_fold[held_out] = _combine(parts[:, ~held_out], targets[~held_out], parts[:, held_out])
    predicted = _combine(parts, targets, np.stack(outside))
    corrections = _look_up(targets - out_of_fold, videos, test["video"])
    boosted = {TREES: outside[-1]} if small else {}
    return boosted | {STACKED: predicted, STACKED_LOOKUP: predicted + corrections}


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
        predicted[:, held_out] = _or_mean(predicted[:, held_out], targets[fitted])
    return predicted


def _combine(parts: np.ndarray, targets: np.ndarray, new_parts: np.ndarray) -> np.ndarray:
    """Return weighted sums (M, K) of predictions new_parts (R, M, K), fitted to targets (N, K) with parts (R, N, K).

    For each column the weights are non-negative (Breiman 1996). They minimise the squared error plus SHRINKAGE times the
    mean variance of the parts times the squared distance to weights that select the best part alone.
    """
    from scipy.optimize import nnls  # it takes half a second to load

    predicted = np.full(new_parts.shape[1:], np.nan)
    for column, target in enumerate(targets.T):
        is_labelled = np.isfinite(target)
        if not is_labelled.any():
            continue
        inputs, y = parts[:, is_labelled, column].T, target[is_labelled]
        best = np.square(inputs - y[:, None]).sum(0).argmin()
        strength = np.sqrt(SHRINKAGE * inputs.var(0).mean())
        rows = np.vstack([inputs - inputs.mean(0), strength * np.eye(len(parts))])
        weights = nnls(rows, np.concatenate([y - y.mean(), strength * np.eye(len(parts))[best]]))[0]
        predicted[:, column] = (new_parts[:, :, column].T - inputs.mean(0)) @ weights + y.mean()
    return _or_mean(predicted, targets)


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
    out_of_fold = predict_out_of_fold(inputs, present, targets, folds)
    best = _best(out_of_fold, targets)
    predicted = np.full((len(test), targets.shape[1]), np.nan)
    predicted[test_present] = predict_ridges(
        inputs[present], targets[present], test_inputs[test_present], PENALTIES[[best]]
    )[0]
    return out_of_fold[best], _or_mean(predicted, targets)


def _fit_trees(
    training: pd.DataFrame, test: pd.DataFrame, targets: np.ndarray, folds: np.ndarray, vectors: Sequence[pd.DataFrame]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of trees on all `vectors` for the training clips, out of fold, and for the test clips."""

    inputs, test_inputs = (
        np.hstack([vector.reindex(table["clip"]).to_numpy(float) for vector in vectors]) for table in (training, test)
    )
    out_of_fold, predicted = np.full(targets.shape, np.nan), np.full((len(test), targets.shape[1]), np.nan)
    labelled = np.isfinite(targets)
    fits = [(column, fold) for column in np.flatnonzero(labelled.any(0)) for fold in range(-1, FOLDS)]
    for column, fold in tqdm(fits, desc="boosted trees", unit="fit", disable=None):
        held_out = folds == fold  # none for fold -1, whose trees learn from all clips
        fitted = labelled[:, column] & ~held_out
        if fitted.any():
            predict = fit_trees(inputs[fitted], targets[fitted, column])
            if fold < 0:
                predicted[:, column] = predict(test_inputs)
            else:
                out_of_fold[held_out, column] = predict(inputs[held_out])
    return _or_mean(out_of_fold, targets), _or_mean(predicted, targets)


def fit_trees(inputs: np.ndarray, target: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from inputs (M, D) to predictions (M,), by trees fitted to inputs (N, D) and a target (N,).

    NaN marks missing inputs.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # it takes a second to load

    has_values = ~np.isnan(inputs).all(0)
    model = HistGradientBoostingRegressor(**_TREES).fit(inputs[:, has_values], target)
    return lambda new_inputs: model.predict(new_inputs[:, has_values])


def select_tree_inputs(vectors: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the vectors that trees read: those of at most a thousand numbers."""
    return {name: table for name, table in vectors.items() if table.shape[1] <= _MOST}


def _best(predicted: np.ndarray, targets: np.ndarray) -> int:
    """Return the index of the penalty with the lowest mean absolute error."""
    return int(np.nanargmin([np.nanmean(np.abs(array - targets)) for array in predicted]))


def _or_mean(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
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
    labelled = np.isfinite(targets)
    for rows in np.unique(labelled, axis=1).T:
        if not rows.any():
            continue
        columns = (labelled == rows[:, None]).all(0)
        x, z = _standardise(inputs[rows], new_inputs, limit)
        level = targets[np.ix_(rows, columns)].mean(0)
        y = targets[np.ix_(rows, columns)] - level
        is_wide = x.shape[1] > x.shape[0]
        gram, right = (x @ x.T, y) if is_wide else (x.T @ x, x.T @ y)
        factor = z @ x.T if is_wide else z
        for index, penalty in enumerate(penalties):
            weights = solve(gram + penalty * np.eye(len(gram)), right, assume_a="pos")
            predicted[index][:, columns] = factor @ weights + level
    return predicted


def _standardise(inputs: np.ndarray, new_inputs: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (N, D) and (M, D), clipped to `limit` standard deviations and standardised, both by the first.

    Constants and missing numbers (NaN) become 0.
    """
    if missing := np.isnan(inputs).any() or np.isnan(new_inputs).any():
        inputs = np.where(np.isnan(inputs), _or_mean(np.full(inputs.shape[1], np.nan), inputs), inputs)
    mean, std = inputs.mean(0), inputs.std(0)
    low, high = mean - limit * std, mean + limit * std
    inputs, new_inputs = inputs.clip(low, high), new_inputs.clip(low, high)
    mean, std = inputs.mean(0), inputs.std(0)
    std = np.where(std > 1e-9 * (1 + np.abs(mean)), std, np.inf)  # a constant has no information
    x, z = (inputs - mean) / std, (new_inputs - mean) / std
    return (np.nan_to_num(x), np.nan_to_num(z)) if missing else (x, z)
