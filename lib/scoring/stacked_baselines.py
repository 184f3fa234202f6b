"""Baselines that stack regressions on all vectors of a clip: ridge, and boosted trees."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.regression.ridge import FOLDS, assign_folds
from lib.regression.stacking import fit_parts, fit_weights
from lib.regression.trees import WIDEST

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
    has_trees = trees and bool(select_tree_inputs(tables))
    if len(tables) + has_trees < 2 or len(set(videos)) < FOLDS:
        return {}
    targets, folds = training[list(columns)].to_numpy(float), assign_folds(videos)
    parts = fit_parts(_read_inputs(tables, training), targets, folds, trees)
    inside, outside = parts.out_of_fold, parts.predict(_read_inputs(tables, test))
    out_of_fold = np.empty_like(targets)
    for fold in range(FOLDS):
        held_out = folds == fold
        out_of_fold[held_out] = fit_weights(inside[:, ~held_out], targets[~held_out]).combine(inside[:, held_out])
    predicted = fit_weights(inside, targets).combine(outside)
    corrections = _look_up(targets - out_of_fold, videos, test["video"])
    alone = {TREES: outside[-1]} if has_trees else {}
    return alone | {STACKED_RIDGE: predicted, STACKED_RIDGE_LOOKUP: predicted + corrections}


def _read_inputs(tables: Mapping[str, pd.DataFrame], clips: pd.DataFrame) -> Iterator[np.ndarray]:
    """Yield the numbers (N, D) of each table for the clips, NaN for a clip that it does not have."""
    for table in tables.values():
        yield table.reindex(clips["clip"]).to_numpy(float)


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


def select_tree_inputs(vectors: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the vectors that trees read: those of at most a thousand numbers."""
    return {name: table for name, table in vectors.items() if table.shape[1] <= WIDEST}
