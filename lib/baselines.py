"""Predictors that see no pixel: what a model has to beat."""

import numpy as np
import pandas as pd

from lib.traits import TRAITS


def mean(training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Predict each trait's training mean for every test clip: (N, 5)."""
    return np.tile(training[list(TRAITS)].mean().to_numpy(), (len(test), 1))


def video_lookup(training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Predict the mean of the training clips of the same video, for an unseen video the training mean: (N, 5)."""
    of_video = training.groupby("video")[list(TRAITS)].mean()
    return of_video.reindex(test["video"]).fillna(training[list(TRAITS)].mean()).to_numpy()


BASELINES = {"mean_predictor": mean, "video_lookup": video_lookup}


def is_seen(training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Return for each test clip whether training has clips of its video: (N,) bool."""
    return test["video"].isin(training["video"]).to_numpy()
