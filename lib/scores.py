"""Scores of predictions, per trait and as the mean over traits."""

from typing import Any

import numpy as np

from lib.traits import TRAITS


def scores(actual: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Return {score: {"mean": ..., trait: ...}} for arrays (N, 5); a score that is not defined is None.

    accuracy is 1 - MAE (Ponce-López et al. 2016, ChaLearn LAP 2016, equation 1); R² is against the mean of `actual`;
    CCC is Lin's (1989) with population moments; Pearson's correlation and R² are not defined for constant values.
    """
    error = predicted - actual
    mae, mse = np.abs(error).mean(0), (error**2).mean(0)
    variance, predicted_variance = actual.var(0), predicted.var(0)
    covariance = ((actual - actual.mean(0)) * (predicted - predicted.mean(0))).mean(0)
    constant, flat = np.ptp(actual, axis=0) == 0, np.ptp(predicted, axis=0) == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "accuracy": 1 - mae,
            "mae": mae,
            "mse": mse,
            "rmse": np.sqrt(mse),
            "r2": np.where(constant, np.nan, 1 - mse / variance),
            "ccc": 2 * covariance / (variance + predicted_variance + (actual.mean(0) - predicted.mean(0)) ** 2),
            "pearson": np.where(constant | flat, np.nan, covariance / np.sqrt(variance * predicted_variance)),
        }
    return {
        name: {"mean": _number(of.mean()), **dict(zip(TRAITS, map(_number, of), strict=True))}
        for name, of in values.items()
    }


def skill(
    actual: np.ndarray, predicted: np.ndarray, baseline: np.ndarray, videos: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """Return the skill 1 - MSE(predicted) / MSE(baseline) and its 95 % interval, in the form of `scores`.

    Arrays (N, 5) and the clips' videos (N,). The interval (`skill_low`, `skill_high`) is the percentile bootstrap over
    videos (Efron and Tibshirani 1993, chapter 13): the clips of a video are not independent, so videos are drawn, with
    replacement, and all their clips with them. "mean" is the mean of the traits' skills.
    """
    _, of_video = np.unique(videos, return_inverse=True)
    count = of_video.max() + 1
    sums = np.zeros((2, count, len(TRAITS)))
    for values, total in zip((predicted, baseline), sums, strict=True):
        np.add.at(total, of_video, (values - actual) ** 2)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)  # (resamples, videos)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 1 - sums[0].sum(0) / sums[1].sum(0)
        resampled = 1 - (draws @ sums[0]) / (draws @ sums[1])
    resampled = np.column_stack([resampled.mean(1), resampled])
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    columns = {"skill": np.append(value.mean(), value), "skill_low": low, "skill_high": high}
    return {name: dict(zip(("mean", *TRAITS), map(_number, of), strict=True)) for name, of in columns.items()}


def _number(value: Any) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
