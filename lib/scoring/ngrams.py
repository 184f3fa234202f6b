"""Words and pairs of words that predict the targets: ridge weights, and their stability over resamples of the videos."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import solve
from sklearn.feature_extraction.text import CountVectorizer

from lib.core.errors import InputError
from lib.regression.ridge import FOLDS, PENALTIES, assign_folds, predict_out_of_fold


class _Regression(NamedTuple):
    """A ridge regression of targets (N, K) on n-grams: inputs (N, D), penalty, and the covariates (N, 2), a constant and the
    log length of a clip's text, which are partialled out of inputs and targets."""

    covariates: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray
    penalty: float

    def fit(self, clip_weights: np.ndarray) -> np.ndarray:
        """Return the weights (D, K) of the n-grams, with the clips weighted by (N,)."""
        x, y = (_partial_out(self.covariates, values, clip_weights) for values in (self.inputs, self.targets))
        weighted = x.T * clip_weights
        return solve(weighted @ x + self.penalty * np.eye(x.shape[1]), weighted @ y, assume_a="pos")


def ngram_table(
    tokens: Sequence[Sequence[str]],
    videos: np.ndarray,
    targets: np.ndarray,
    columns: Sequence[str],
    least: int,
    top: int,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return a row for each target and n-gram: a word, or two consecutive words, that occur in at least `least` videos.

    videos: number of videos with the n-gram. weight: of its presence in a ridge regression on all n-grams, in units of the
    target for one standard deviation. low, high: 95 % percentile interval over `resamples` of the videos. same_sign: the
    fraction of resamples with that sign. in_top: the fraction of resamples in which the weight is among the `top` highest
    (for a negative weight: lowest).

    tokens: the words of N clips; videos (N,); targets (N, K), finite. The length of the text, as log(1 + number of words),
    is partialled out of presence and targets. The penalty has the lowest mean absolute error out of fold; no video is in two
    folds. Raises InputError if there are too few videos or n-grams.
    """
    if len(set(videos)) < max(FOLDS, least):
        raise InputError(
            f"{len(set(videos))} videos have words and labels; required: at least {max(FOLDS, least)}. Add clips"
        )
    names, in_videos, presence = _count_ngrams(tokens, videos, least)
    if len(names) < 2 * top:
        raise InputError(
            f"{len(names)} words and pairs occur in at least {least} videos; required: at least {2 * top}. Lower --videos or"
            " --top"
        )
    regression = _prepare(tokens, videos, presence, targets)
    weights = regression.fit(np.ones(len(tokens)))
    low, high, same_sign, in_top = _resample(regression, weights, videos, top, resamples, seed)
    tables = [
        pd.DataFrame(
            {"target": column, "ngram": names, "videos": in_videos, "weight": weights[:, index], "low": low[:, index]}
            | {"high": high[:, index], "same_sign": same_sign[:, index], "in_top": in_top[:, index]}
        )
        for index, column in enumerate(columns)
    ]
    return pd.concat(tables, ignore_index=True)


def _count_ngrams(
    tokens: Sequence[Sequence[str]], videos: np.ndarray, least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the n-grams (D,) that at least `least` videos have, their numbers of videos (D,), and presence (N, D)."""
    vectorizer = CountVectorizer(analyzer=lambda words: {*words, *map(" ".join, zip(words, words[1:], strict=False))})
    counts = vectorizer.fit_transform(tokens).tocsc()
    codes = pd.factorize(videos)[0]
    in_videos = np.array(
        [
            len(set(codes[counts.indices[start:end]]))
            for start, end in zip(counts.indptr, counts.indptr[1:], strict=False)
        ]
    )
    frequent = in_videos >= least
    names = np.array(vectorizer.get_feature_names_out())
    return names[frequent], in_videos[frequent], counts[:, frequent].toarray().astype(float)


def _prepare(
    tokens: Sequence[Sequence[str]], videos: np.ndarray, presence: np.ndarray, targets: np.ndarray
) -> _Regression:
    """Return the regression of targets on standardised presence, with the best penalty."""
    equal = np.ones(len(tokens))
    covariates = np.column_stack([equal, np.log1p([len(words) for words in tokens])])
    inputs = _partial_out(covariates, presence, equal)
    inputs /= np.maximum(inputs.std(0), 1e-9)
    residuals = _partial_out(covariates, targets, equal)
    folds = assign_folds(videos)
    predicted = predict_out_of_fold(inputs, residuals, folds, limit=np.inf)
    penalty = PENALTIES[int(np.argmin(np.abs(predicted - residuals).mean((1, 2))))]
    return _Regression(covariates, inputs, targets, penalty)


def _resample(
    regression: _Regression, weights: np.ndarray, videos: np.ndarray, top: int, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return low, high, same_sign and in_top of `ngram_table`, each (D, K), for the `weights` (D, K) of all videos."""
    codes, rng, draws = pd.factorize(videos)[0], np.random.default_rng(seed), []
    count = codes.max() + 1
    same_sign, in_top = np.zeros_like(weights), np.zeros_like(weights)
    for _ in range(resamples):
        times_drawn = np.bincount(rng.integers(count, size=count), minlength=count)
        drawn = regression.fit(times_drawn[codes].astype(float))
        draws.append(drawn.astype(np.float32))
        same_sign += np.sign(drawn) == np.sign(weights)
        highest, lowest = np.sort(drawn, 0)[-top], np.sort(-drawn, 0)[-top]
        in_top += drawn * np.sign(weights) >= np.where(weights > 0, highest, lowest)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return low, high, same_sign / resamples, in_top / resamples


def _partial_out(covariates: np.ndarray, values: np.ndarray, clip_weights: np.ndarray) -> np.ndarray:
    """Return the residuals (N, D) of `values` after a regression on `covariates` (N, S), with clips weighted by (N,)."""
    weighted = covariates.T * clip_weights
    return values - covariates @ np.linalg.solve(
        weighted @ covariates + 1e-9 * np.eye(covariates.shape[1]), weighted @ values
    )
