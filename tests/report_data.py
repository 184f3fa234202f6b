"""Target groups, a run and scores, for tests of reports."""

import numpy as np
import pandas as pd

from lib.core.targets import TRAITS, TargetGroup
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.tables import ScoredClips, comparison_table, score_table

WARMTH = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mse", weight=1)


FIVE_TRAITS = TargetGroup(columns=list(TRAITS), range=[0, 1], head="sigmoid", loss="mse", weight=1)


TRAINING_SUMMARY = {"hardware": "a processor, 2 cores", "clips": {"training": 100, "validation": 20}, "seed": 3}


DATA = {
    "sources": ["demo"], "split": "official", "annotated": 110, "files": 104, "usable": 100, "hours": 0.5,
    "rejected": {"no file in data/archives": 7, "no annotation": 1, "too short": 2, "duplicate": 1},
    "clips": {"training": 30, "validation": 10, "test": 60}, "videos": {"training": 20, "validation": 5, "test": 30},
    "videos_shared_with_training": {"validation": 5, "test": 20},
}  # fmt: skip


CLIPS_AND_VIDEOS = pd.DataFrame(
    {"clip": [f"c{index:02d}" for index in range(60)], "video": np.repeat(np.arange(30), 2)}
)


def make_scored(group: TargetGroup, noise: float, unseen: int = 20) -> ScoredClips:
    """Predictions of a model, the mean predictor and a video look-up, on 60 clips of 30 videos.

    The standard deviation of the model's errors is `noise` times the range. The look-up is exact on the seen videos.
    """
    rng = np.random.default_rng(0)
    is_seen = np.arange(60) >= unseen
    actual = rng.uniform(*group.range, (60, len(group.columns)))
    mean = np.full_like(actual, np.mean(group.range))
    predictions = {
        "model": actual + rng.normal(0, noise * group.span, actual.shape),
        "mean_predictor": mean,
        "video_lookup": np.where(is_seen[:, None], actual, mean),
    }
    return ScoredClips(actual, predictions, CLIPS_AND_VIDEOS["video"].to_numpy(), is_seen, group, Bootstrap(500, 0))


def score_model(group: TargetGroup, noise: float, unseen: int = 20) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and comparisons of `make_scored`."""
    scored = make_scored(group, noise, unseen)
    return score_table(scored), comparison_table(scored)
