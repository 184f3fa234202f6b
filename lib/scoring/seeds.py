"""Scores of several trainings of the same model that differ in their seed: means over seeds with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import Bootstrap, count_videos, interval_rows, resample, sum_by_video
from lib.scoring.scores import compute_moments, scores_from_moments


def score_over_seeds(
    predictions: Mapping[str, Sequence[np.ndarray]],
    actual: np.ndarray,
    videos: np.ndarray,
    target_group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for each predictor, target ("mean" and each column) and score of `score_columns`.

    value: mean over seeds. low, high: ends of the 95 % interval of that mean; all seeds use the same resamples. seed_std:
    standard deviation over seeds, NaN for a single seed.

    predictions: arrays (N, K) by name, one for each seed; actual (N, K) is NaN where unknown; videos (N,).
    """
    columns, span, tables = target_group.columns, target_group.span, []
    for name, arrays in predictions.items():
        sums = [sum_by_video(compute_moments(actual, array, actual), videos) for array in arrays]  # (V, K, MOMENTS)
        of_seeds = [scores_from_moments(seed_sums.sum(0), span) for seed_sums in sums]  # {score: (K + 1,)}
        draws = [resample(seed_sums, bootstrap.resamples, bootstrap.rng()) for seed_sums in sums]
        resampled = [scores_from_moments(seed_draws, span) for seed_draws in draws]  # {score: (R, K + 1)}
        rows = interval_rows(_average(of_seeds), _average(resampled), count_videos(sums[0]), columns)
        if len(arrays) > 1:
            stds = (np.std([scores[score] for scores in of_seeds], axis=0, ddof=1) for score in rows["score"].unique())
            rows["seed_std"] = np.concatenate([*stds])
        rows = rows.sort_values("target", key=lambda targets: targets.map(["mean", *columns].index), kind="stable")
        tables.append(rows.assign(predictor=name, seeds=len(arrays)))
    order = ["predictor", "seeds", "target", "score", "value", "low", "high", "seed_std"]
    return pd.concat(tables, ignore_index=True).reindex(columns=order)


def _average(scores_of_seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the mean over seeds of each score, without skill, which needs a baseline."""
    names = [name for name in scores_of_seeds[0] if name != "skill"]
    return {name: np.mean([scores[name] for scores in scores_of_seeds], axis=0) for name in names}
