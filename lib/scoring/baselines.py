"""Baselines: predictors that use no image or audio, and ridge regressions on vectors of each clip."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.regression.ridge import FOLDS, assign_folds, choose_penalty, predict_ridges
from lib.scoring.stacked_baselines import STACKED_RIDGE, STACKED_RIDGE_LOOKUP, STRENGTHS, TREES, predict_stacked

NAMES = ("mean_predictor", "median_predictor", "video_lookup", "shrunk_video_lookup")
"""Baselines that use at most the name of a clip's video. Others: ridge_NAME, on the vectors NAME, and JOINT, on all."""
JOINT = (STACKED_RIDGE, STACKED_RIDGE_LOOKUP, TREES)
LEAKING = ("video_lookup", "shrunk_video_lookup", STACKED_RIDGE_LOOKUP)
"""Baselines that use the name of a clip's video: a leak, if the video has training clips."""
PRESENCE = ("always_present", "majority")
"""Predictors of presence that use no clip (`predict_presence`)."""

_RIDGE = "ridge_"


def predict(
    training: pd.DataFrame,
    test: pd.DataFrame,
    validation: pd.DataFrame,
    columns: Sequence[str],
    vectors: Mapping[str, pd.DataFrame],
    trees: bool = False,
    attributes: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Return the predictions (N, K) of each baseline for every test clip.

    The tables have `clip`, `video` and the K columns, NaN where unknown.

    mean_predictor, median_predictor: mean and median of the training clips. video_lookup: mean of the labelled training
    clips of the same video; without any, the training mean. shrunk_video_lookup: that mean shrunk towards the training mean
    by n / (n + k) for n clips; k has the lowest mean absolute error on `validation`. ridge_NAME: regression on the
    standardised vectors[NAME], a row of numbers for each clip by name, each number clipped to ridge.LIMIT standard
    deviations; its penalty has the lowest mean absolute error on `validation`. A clip without a vector gets the training
    mean. ridge_NAME for NAME in `attributes` is the same regression; the regressions of JOINT do not read these tables.
    shrunk_video_lookup and ridge are left out if `validation` has no label.

    JOINT: regressions on all vectors together (`predict_stacked`); parts NAME.PART replace the vector NAME. They select
    penalties by cross-validation, so they are fitted to training and validation clips, without the validation clips of test
    videos that have no training clips.
    """
    vectors = select_known(vectors, training)
    targets = training[list(columns)]
    mean = targets.mean()
    by_video = training.groupby("video")[list(columns)]
    predictions = {
        "mean_predictor": np.tile(mean, (len(test), 1)),
        "median_predictor": np.tile(targets.median(), (len(test), 1)),
        "video_lookup": by_video.mean().reindex(test["video"]).fillna(mean).to_numpy(),
    }
    if _can_choose(training, validation, columns):
        actual = validation[list(columns)].to_numpy()
        errors = {k: np.nanmean(np.abs(_shrunk(training, validation, columns, k) - actual)) for k in STRENGTHS}
        predictions["shrunk_video_lookup"] = _shrunk(training, test, columns, min(errors, key=errors.__getitem__))
    for name, table in (vectors | dict(attributes)).items():
        predicted = predict_ridge(training, test, validation, columns, table)
        if predicted is not None:
            predictions[f"{_RIDGE}{name}"] = np.where(np.isnan(predicted), mean, predicted)
    learnt = select_joint_clips(training, test, validation)
    return predictions | predict_stacked(learnt, test, columns, select_parts(vectors), trees)


def select_known(vectors: Mapping[str, pd.DataFrame], clips: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the columns of each table with a number for one of `clips`, a table with a column `clip`."""
    return {
        name: table.loc[:, table[table.index.isin(clips["clip"])].notna().any()]
        if table.isna().any(axis=None)
        else table
        for name, table in vectors.items()
    }


def select_parts(vectors: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables that JOINT baselines read: parts NAME.PART replace the vector NAME."""
    divided = {name.partition(".")[0] for name in vectors if "." in name}
    return {name: table for name, table in vectors.items() if name not in divided}


def select_joint_clips(training: pd.DataFrame, test: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Return the clips to which JOINT baselines are fitted."""
    unseen = test["video"][~is_video_in_training(training, test)]
    return pd.concat([training, validation[~validation["video"].isin(unseen)]], ignore_index=True)


def predict_presence(training: pd.DataFrame, test: pd.DataFrame, target_group: TargetGroup) -> dict[str, np.ndarray]:
    """Return predictions (N, K) of presence that use no clip; none for a group without `detect`.

    always_present: the highest value for each column. majority: the highest value for a column that is present in at least
    half of the labelled training clips, else the lowest.
    """
    if not target_group.detect:
        return {}
    low, high = target_group.range
    present = (training[list(target_group.columns)] > low).where(training[list(target_group.columns)].notna()).mean()
    majority = np.where(present >= 0.5, high, low)
    predictions = np.full((len(test), len(target_group.columns)), high), np.tile(majority, (len(test), 1))
    return dict(zip(PRESENCE, predictions, strict=True))


def is_baseline(name: str) -> bool:
    """Return whether `name` is the name of a baseline of `predict`."""
    return name in (*NAMES, *JOINT) or name.startswith(_RIDGE)


def is_video_in_training(training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Return for each test clip whether the training table has clips of its video: (N,) bool."""
    return test["video"].isin(training["video"]).to_numpy()


def _can_choose(training: pd.DataFrame, validation: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Return whether a column has labels in both tables."""
    return bool((training[list(columns)].notna().any() & validation[list(columns)].notna().any()).any())


def _shrunk(training: pd.DataFrame, test: pd.DataFrame, columns: Sequence[str], strength: float) -> np.ndarray:
    """Return the training mean of each test clip's video (N, K), shrunk towards the mean of all training clips."""
    by_video = training.groupby("video")[list(columns)]
    total = by_video.sum().reindex(test["video"]).fillna(0).to_numpy()
    count = by_video.count().reindex(test["video"]).fillna(0).to_numpy()
    return (total + strength * training[list(columns)].mean().to_numpy()) / (count + strength)


def predict_ridge(
    training: pd.DataFrame, test: pd.DataFrame, validation: pd.DataFrame, columns: Sequence[str], vectors: pd.DataFrame
) -> np.ndarray | None:
    """Return the predictions (N, K) of ridge on standardised `vectors`; tables are those of `predict`.

    The penalty has the lowest mean absolute error on `validation`. Predictions are NaN for a clip without a vector and for a
    column without training labels; None if training or validation has no labels.
    """
    training, validation = (table[table["clip"].isin(vectors.index)] for table in (training, validation))
    if not _can_choose(training, validation, columns):
        return None
    present = test["clip"].isin(vectors.index).to_numpy()
    inputs = vectors.loc[training["clip"]].to_numpy(float)
    new_clips = [*validation["clip"], *test["clip"][present]]
    predictions = predict_ridges(
        inputs, training[list(columns)].to_numpy(float), vectors.loc[new_clips].to_numpy(float)
    )
    held_out, actual = predictions[:, : len(validation)], validation[list(columns)].to_numpy()
    best = int(np.argmin([np.nanmean(np.abs(values - actual)) for values in held_out]))
    predicted = np.full((len(test), len(columns)), np.nan)
    predicted[present] = predictions[best, len(validation) :]
    return predicted


def predict_out_of_fold_ridge(table: pd.DataFrame, actual: np.ndarray, vectors: pd.DataFrame) -> np.ndarray | None:
    """Return the predictions (N, K) of ridge for each clip of `table`, fitted to its clips of other videos in FOLDS folds.

    actual (N, K): labels, NaN where unknown. The penalty has the lowest mean absolute error on these predictions. A clip
    without a vector gets the mean. None with fewer than FOLDS videos, or without a vector.
    """
    videos, present = table["video"].to_numpy(), table["clip"].isin(vectors.index).to_numpy()
    if len(set(videos)) < FOLDS or not present.any():
        return None
    inputs = vectors.reindex(table["clip"]).to_numpy(float)
    return choose_penalty(inputs, actual, assign_folds(videos))[0]


def clip_predictions(
    predictions: Mapping[str, np.ndarray], limits: Sequence[float]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return predictions clipped to the targets' range, and arrays of bool that mark the clipped values, both by name."""
    low, high = limits
    outside = {name: (values < low) | (values > high) for name, values in predictions.items()}
    return {name: values.clip(low, high) for name, values in predictions.items()}, outside
