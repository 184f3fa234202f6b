"""What a model has to beat: predictors that see no pixel, and ridge regression on a hand-made descriptor."""

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.core.targets import TRAITS

NAMES = ("mean_predictor", "median_predictor", "video_lookup", "shrunk_video_lookup", "ridge")

_STRENGTHS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)  # clips
_PENALTIES = np.logspace(0, 6, 13)


def predict(
    training: pd.DataFrame, test: pd.DataFrame, validation: pd.DataFrame, descriptors: pd.DataFrame | None = None
) -> dict[str, np.ndarray]:
    """Return the predictions (N, 5) of each of NAMES for every test clip; tables have `video` and the traits.

    mean_predictor, median_predictor: of the training clips. video_lookup: mean of the training clips of the same video, for
    an unseen video the training mean. shrunk_video_lookup: that mean drawn towards the training mean as n / (n + k) for n
    clips, with the k of lowest mean absolute error on `validation`. ridge: regression on `descriptors` (lib.descriptors; a
    row for each clip, by name), standardised, with the penalty of lowest mean absolute error on `validation`; the tables
    then have `clip` too. Both are left out where `validation` is empty, and ridge without descriptors.
    """
    scores = training[list(TRAITS)]
    of_video = training.groupby("video")[list(TRAITS)]
    found = {
        "mean_predictor": np.tile(scores.mean(), (len(test), 1)),
        "median_predictor": np.tile(scores.median(), (len(test), 1)),
        "video_lookup": of_video.mean().reindex(test["video"]).fillna(scores.mean()).to_numpy(),
    }
    if len(validation):
        actual = validation[list(TRAITS)].to_numpy()
        errors = {k: np.abs(_shrunk(training, validation, k) - actual).mean() for k in _STRENGTHS}
        found["shrunk_video_lookup"] = _shrunk(training, test, min(errors, key=errors.__getitem__))
        if descriptors is not None:
            of_training, of_validation, of_test = (
                descriptors.loc[table["clip"]].to_numpy() for table in (training, validation, test)
            )
            models = [make_pipeline(StandardScaler(), Ridge(one)).fit(of_training, scores) for one in _PENALTIES]
            best = min(models, key=lambda model: np.abs(model.predict(of_validation) - actual).mean())
            found["ridge"] = best.predict(of_test)
    return found


def is_seen(training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Return for each test clip whether training has clips of its video: (N,) bool."""
    return test["video"].isin(training["video"]).to_numpy()


def _shrunk(training: pd.DataFrame, test: pd.DataFrame, strength: float) -> np.ndarray:
    of_video = training.groupby("video")[list(TRAITS)]
    total = of_video.sum().reindex(test["video"]).fillna(0).to_numpy()
    count = of_video.size().reindex(test["video"]).fillna(0).to_numpy()[:, None]
    return (total + strength * training[list(TRAITS)].mean().to_numpy()) / (count + strength)
