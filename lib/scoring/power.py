"""The smallest difference between two predictors that a set of clips can show, in 1 - MAE, R² and CCC."""

from collections.abc import Iterator

import numpy as np

from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import Bootstrap, resample, sum_by_video
from lib.scoring.paired import DETECTABLE
from lib.scoring.scores import compute_moments, scores_from_moments

SCORES = ("accuracy", "r2", "ccc")
RIVALS = 10
"""Number of imitated rivals over which the standard error of a difference is averaged."""


def find_smallest(
    actual: np.ndarray,
    predicted: np.ndarray,
    others: np.ndarray,
    videos: np.ndarray,
    target_group: TargetGroup,
    bootstrap: Bootstrap,
) -> dict[str, np.ndarray]:
    """Return for each of SCORES the smallest difference (K + 1,), first of the mean over columns, that these clips show.

    A difference is shown by a two-sided test at 5 %, without correction, with a power of 80 %. The difference is paired: the
    same resamples of videos score both predictors. Its standard error is the root of the mean variance over `others`.

    actual, predicted (N, K): NaN where the label is unknown; others (R, N, K): predictions of R rivals; videos (N,).
    """
    errors = []
    scores = _resample_scores(actual, predicted, videos, target_group, bootstrap)
    for other in others:
        rival = _resample_scores(actual, other, videos, target_group, bootstrap)
        errors.append([np.nanvar(scores[name] - rival[name], 0, ddof=1) for name in SCORES])
    return dict(zip(SCORES, DETECTABLE * np.sqrt(np.mean(errors, 0)), strict=True))


def _resample_scores(
    actual: np.ndarray, predicted: np.ndarray, videos: np.ndarray, target_group: TargetGroup, bootstrap: Bootstrap
) -> dict[str, np.ndarray]:
    """Return the scores (resamples, K + 1) of each resample of the videos; every call uses the same resamples."""
    sums = sum_by_video(compute_moments(actual, predicted, actual), videos)
    return scores_from_moments(resample(sums, bootstrap.resamples, bootstrap.rng()), target_group.span)


def imitate_rivals(
    actual: np.ndarray, predicted: np.ndarray, videos: np.ndarray, correlation: float, seed: int
) -> np.ndarray:
    """Return predictions (RIVALS, N, K) of imagined models that are on average as good as the given one.

    A model's residual is the part of its predictions that is not a linear function of the label. A rival has the same linear
    function, and residuals that correlate with those of the model by `correlation` (0 to 1): the rest is taken from another
    video, drawn at random, so that the residuals of a video's clips stay as similar as they are.
    """
    _, index = np.unique(videos, return_inverse=True)
    fitted, residuals = split_residuals(actual, predicted)
    rng = np.random.default_rng(seed)
    rivals = np.repeat(predicted[None], RIVALS, 0)
    for column in range(actual.shape[1]):
        rows = np.flatnonzero(np.isfinite(actual[:, column]))
        for rival in rivals:
            donated = residuals[_draw_donors(index[rows], rng, rows), column]
            mixed = correlation * residuals[rows, column] + np.sqrt(1 - correlation**2) * donated
            rival[rows, column] = fitted[rows, column] + mixed
    return rivals


def _draw_donors(index: np.ndarray, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Return for each of `rows` (N,), clips of the videos `index` (N,), a row of the donor that its video drew."""
    members = [rows[index == video] for video in np.unique(index)]
    donors = np.empty_like(rows)
    for video, donor in zip(np.unique(index), rng.integers(len(members), size=len(members)), strict=True):
        is_of_video = index == video
        donors[is_of_video] = np.resize(members[donor], is_of_video.sum())
    return donors


def split_residuals(actual: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear function of the labels that fits the predictions best, and the residuals: (N, K) each."""
    is_labelled = np.isfinite(actual)
    count = np.maximum(is_labelled.sum(0), 1)
    level, mean = (np.where(is_labelled, values, 0).sum(0) / count for values in (actual, predicted))
    centred, moved = np.where(is_labelled, actual - level, 0), np.where(is_labelled, predicted - mean, 0)
    variance = (centred**2).sum(0)
    slope = (centred * moved).sum(0) / np.where(variance > 0, variance, 1)
    fitted = mean + slope * (actual - level)
    return fitted, predicted - fitted


def correlate_residuals(actual: np.ndarray, predicted: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation (K,) of two predictors' residuals; NaN for a predictor without residuals."""
    pairs = (split_residuals(actual, values)[1] for values in (predicted, other))
    return np.array(list(_correlate(np.isfinite(actual), *pairs)))


def _correlate(is_labelled: np.ndarray, first: np.ndarray, second: np.ndarray) -> Iterator[float]:
    for rows, x, y in zip(is_labelled.T, first.T, second.T, strict=True):
        x, y = x[rows], y[rows]
        spread = np.sqrt((x @ x) * (y @ y))
        yield float(x @ y / spread) if spread > 1e-12 else np.nan
