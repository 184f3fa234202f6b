"""What a model has to beat: predictors that see no pixel, and ridge regressions on vectors of each clip."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.scoring.stacking import PENALTIES, STACKED, STACKED_LOOKUP, STRENGTHS, TREES, predict_stacked

NAMES = ("mean_predictor", "median_predictor", "video_lookup", "shrunk_video_lookup")
"""Those that know a clip's video at most; further ones are ridge_NAME for the vectors NAME, and JOINT of all of them."""
JOINT = (STACKED, STACKED_LOOKUP, TREES)

_RIDGE = "ridge_"


def predict(
    training: pd.DataFrame,
    test: pd.DataFrame,
    validation: pd.DataFrame,
    columns: Sequence[str],
    vectors: Mapping[str, pd.DataFrame],
    trees: bool = False,
) -> dict[str, np.ndarray]:
    """Return the predictions (N, K) of each baseline for every test clip; tables have `clip`, `video` and the K columns, NaN
    where unknown.

    mean_predictor, median_predictor: of the training clips. video_lookup: mean of the training clips of the same video that
    know the column, the training mean where there is none. shrunk_video_lookup: that mean drawn towards the training mean as
    n / (n + k) for n clips, with the k of lowest mean absolute error on `validation`. ridge_NAME: regression on
    vectors[NAME] (a row of numbers for each clip, by name; clips may lack), standardised, with the penalty of lowest mean
    absolute error on `validation`; a clip without a vector gets the training mean. These two kinds are left out where
    `validation` can't choose. JOINT: of all vectors (lib/scoring/stacking.py), of NAME.PART rather than of NAME; they choose
    by folds of their own, so that they learn from `validation` as well, but not of videos that the test clips alone share.
    """
    targets = training[list(columns)]
    mean = targets.mean()
    of_video = training.groupby("video")[list(columns)]
    found = {
        "mean_predictor": np.tile(mean, (len(test), 1)),
        "median_predictor": np.tile(targets.median(), (len(test), 1)),
        "video_lookup": of_video.mean().reindex(test["video"]).fillna(mean).to_numpy(),
    }
    if _can_choose(training, validation, columns):
        actual = validation[list(columns)].to_numpy()
        errors = {k: np.nanmean(np.abs(_shrunk(training, validation, columns, k) - actual)) for k in STRENGTHS}
        found["shrunk_video_lookup"] = _shrunk(training, test, columns, min(errors, key=errors.__getitem__))
    for name, table in vectors.items():
        predicted = predict_ridge(training, test, validation, columns, table)
        if predicted is not None:
            found[f"{_RIDGE}{name}"] = np.where(np.isnan(predicted), mean, predicted)
    parted = {name.partition(".")[0] for name in vectors if "." in name}
    whole = {name: table for name, table in vectors.items() if name not in parted}
    unseen = test["video"][~is_seen(training, test)]
    learnt = pd.concat([training, validation[~validation["video"].isin(unseen)]], ignore_index=True)
    return found | predict_stacked(learnt, test, columns, whole, trees)


def is_baseline(name: str) -> bool:
    """Return whether a predictor's name is one that `predict` gives."""
    return name in (*NAMES, *JOINT) or name.startswith(_RIDGE)


def is_seen(training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Return for each test clip whether training has clips of its video: (N,) bool."""
    return test["video"].isin(training["video"]).to_numpy()


def _can_choose(training: pd.DataFrame, validation: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether there is a column that both know somewhere."""
    return bool((training[list(columns)].notna().any() & validation[list(columns)].notna().any()).any())


def _shrunk(training: pd.DataFrame, test: pd.DataFrame, columns: Sequence[str], strength: float) -> np.ndarray:
    of_video = training.groupby("video")[list(columns)]
    total = of_video.sum().reindex(test["video"]).fillna(0).to_numpy()
    count = of_video.count().reindex(test["video"]).fillna(0).to_numpy()
    return (total + strength * training[list(columns)].mean().to_numpy()) / (count + strength)


def predict_ridge(
    training: pd.DataFrame, test: pd.DataFrame, validation: pd.DataFrame, columns: Sequence[str], vectors: pd.DataFrame
) -> np.ndarray | None:
    """Return what ridge on standardised `vectors` predicts, (N, K), with the penalty of lowest mean absolute error on
    `validation`; NaN for a clip without a vector and a column without training; None where there is nothing to learn from or
    to choose by. Tables as of `predict`."""
    training, validation = (table[table["clip"].isin(vectors.index)] for table in (training, validation))
    if not _can_choose(training, validation, columns):
        return None
    targets, actual = training[list(columns)], validation[list(columns)].to_numpy()
    of_validation = vectors.loc[validation["clip"]].to_numpy()
    models = [_fit(vectors.loc[training["clip"]], targets, penalty) for penalty in PENALTIES]
    best = min(models, key=lambda model: np.nanmean(np.abs(_apply(model, of_validation, len(columns)) - actual)))
    predicted = np.full((len(test), len(columns)), np.nan)
    there = test["clip"].isin(vectors.index).to_numpy()
    if there.any():
        predicted[there] = _apply(best, vectors.loc[test["clip"][there]].to_numpy(), len(columns))
    return predicted


def _fit(inputs: pd.DataFrame, targets: pd.DataFrame, penalty: float) -> list[tuple[np.ndarray, Pipeline]]:
    """Return pairs of columns (K,) bool and their model: columns that the same rows know share one."""
    known = targets.notna().to_numpy()
    models = []
    for rows in np.unique(known, axis=1).T:
        if rows.any():
            columns = (known == rows[:, None]).all(0)
            model = make_pipeline(StandardScaler(), Ridge(penalty))
            models.append((columns, model.fit(inputs[rows].to_numpy(), targets.loc[rows, columns].to_numpy())))
    return models


def _apply(models: list[tuple[np.ndarray, Pipeline]], inputs: np.ndarray, columns: int) -> np.ndarray:
    predicted = np.full((len(inputs), columns), np.nan)
    for which, model in models:
        predicted[:, which] = model.predict(inputs).reshape(len(inputs), -1)
    return predicted
