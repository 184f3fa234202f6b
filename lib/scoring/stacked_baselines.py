"""Baselines that stack regressions on all vectors of a clip: ridge, and boosted trees."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.regression import trees as boosted
from lib.regression.ridge import FOLDS, assign_folds, choose_penalty, fill_with_mean, predict_ridges
from lib.regression.stacking import fit_weights

STACKED_RIDGE, STACKED_RIDGE_LOOKUP, TREES = "stacked_ridge", "stacked_ridge_and_video_lookup", "boosted_trees"
STRENGTHS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)  # clips


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
