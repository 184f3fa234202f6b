"""Bootstrap intervals of scores: complete videos are drawn with replacement."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.scoring.scores import compute_moments, scores_from_moments

MIN_VIDEOS = 10
"""A score gets an interval if at least this number of videos have labels; with fewer, the interval would be too narrow."""

_BLOCK = 1 << 25
"""Number of random draws that are in memory at a time: 256 MB."""
_KEPT = 1 << 29
"""Largest number of draws that stay in memory for the next table, one byte each: 512 MB."""
_draws: dict[tuple[int, int, str], tuple[list[np.ndarray], Any]] = {}
"""The last draws by number of videos, number of resamples and state of the generator, and its state after them."""


class Bootstrap(NamedTuple):
    """The random draws of all intervals and permutation tests: number of resamples, and seed."""

    resamples: int
    seed: int

    def rng(self) -> np.random.Generator:
        """Return a new generator: every table uses the same draws."""
        return np.random.default_rng(self.seed)


def score_with_intervals(
    actual: np.ndarray,
    predicted: np.ndarray,
    baseline: np.ndarray,
    videos: np.ndarray,
    columns: Sequence[str],
    span: float,
    bootstrap: Bootstrap,
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return a row for each score and for the mean and each of `columns`: score, target, value, low, high; NaN if undefined.

    The scores are those of `score_columns`, and skill: 1 - MSE(predicted) / MSE(baseline). Arrays are (N, K), videos (N,).
    low and high are the ends of the 95 % percentile bootstrap interval over videos (Efron and Tibshirani 1993, chapter 13).
    The clips of a video are not independent, so complete videos are drawn with replacement. For Spearman's correlation,
    clips keep their ranks among all clips. A column gets an interval if at least MIN_VIDEOS videos have a label for it; the
    mean, if every column does. weights (N, K): of the labels, None for equal weights (`compute_moments`).
    """
    sums = sum_by_video(compute_moments(actual, predicted, baseline, weights), videos)
    return estimate_intervals(sums, lambda total: scores_from_moments(total, span), columns, bootstrap)


def estimate_intervals(
    sums: np.ndarray,
    scores_from_sums: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` for scores that are computed from sums over clips.

    sums (V, K, M) are from `sum_by_video`; the first of the M counts the clips with a label. scores_from_sums: converts sums
    (..., K, M) over all videos to {score: (..., K + 1)}, the mean over columns first.
    """
    resampled = scores_from_sums(resample(sums, bootstrap.resamples, bootstrap.rng()))
    return interval_rows(scores_from_sums(sums.sum(0)), resampled, count_videos(sums), columns)


def interval_rows(
    values: Mapping[str, np.ndarray], resampled: Mapping[str, np.ndarray], videos: np.ndarray, columns: Sequence[str]
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` from values {score: (K + 1,)} and their resamples {score: (R, K + 1)}.

    low and high are NaN where the number of `videos` (K + 1,) is below MIN_VIDEOS.
    """
    rows = []
    for name, value in values.items():
        defined = np.isfinite(value)
        low, high = np.nanpercentile(np.where(defined, resampled[name], 0), [2.5, 97.5], axis=0)
        ends = np.where(defined & (videos >= MIN_VIDEOS), [low, high], np.nan)
        cells = {"score": name, "target": ["mean", *columns], "value": np.where(defined, value, np.nan), "low": ends[0]}
        rows.append(pd.DataFrame(cells | {"high": ends[1]}))
    return pd.concat(rows, ignore_index=True)


def count_videos(sums: np.ndarray) -> np.ndarray:
    """Return the number of videos with a label (..., K + 1), first the lowest number of any column, from sums (V, ..., K, M)
    whose first entry counts a video's clips with a label."""
    counts = (sums[..., 0] > 0).sum(0)
    return np.concatenate([counts.min(-1, keepdims=True), counts], -1)


def sum_by_video(values: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """Return the sums (V, ...) of values (N, ...) over the clips of each of the V videos in `videos` (N,)."""
    names, video_index = np.unique(videos, return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, video_index, values)
    return sums


def resample(sums: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the totals (resamples, ...) of sums (V, ...) by video: each resample draws V videos with replacement."""
    drawn = _draw_videos(len(sums), resamples, rng)
    return np.concatenate([np.tensordot(block.astype(float), sums, 1) for block in drawn])


def _draw_videos(videos: int, resamples: int, rng: np.random.Generator) -> Iterable[np.ndarray]:
    """Return blocks (rows, V) with the number of times that each resample draws each video.

    Drawing takes most of the time of an interval, and the tables use the same draws, so the last draws stay in memory.
    """
    key = videos, resamples, str(rng.bit_generator.state)
    if videos * resamples > _KEPT:
        return _draw_blocks(videos, resamples, rng)
    if key not in _draws:
        _draws.clear()
        _draws[key] = [*_draw_blocks(videos, resamples, rng)], rng.bit_generator.state
    blocks, rng.bit_generator.state = _draws[key]
    return blocks


def _draw_blocks(videos: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for rows in split_resamples(resamples, videos):
        drawn = rng.multinomial(videos, np.full(videos, 1 / videos), rows)
        yield drawn.astype(np.min_scalar_type(drawn.max()))


def split_resamples(resamples: int, videos: int) -> list[int]:
    """Return numbers of resamples with the sum `resamples`, whose draws of `videos` each need up to 256 MB.

    Code that draws one block after another draws the same numbers as code that draws all at once.
    """
    rows = max(1, _BLOCK // max(videos, 1))
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]
