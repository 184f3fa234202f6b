"""What words say: ridge weights of words and pairs of them, and how stable these are over resamples of the videos."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.linalg import solve
from sklearn.feature_extraction.text import CountVectorizer

from lib.core.errors import InputError
from lib.scoring.stacking import FOLDS, PENALTIES, assign_folds, predict_out_of_fold


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
    """Return a row for each target and n-gram (a word, or two in a row, that at least `least` videos have): `videos`, that
    have it; `weight`, of its presence in a ridge regression on all of them, in units of the target for a standard deviation;
    `low` and `high`, its 95 % percentile interval over `resamples` of the videos; `same_sign`, the share of resamples with
    that sign; `in_top`, the share in which it is among the `top` highest, or lowest, as its sign is.

    tokens: the words of N clips; videos (N,); targets (N, K), finite. How much is said (log of 1 + number of words) is
    partialled out of presence and targets. The penalty is that of lowest mean absolute error out of fold, no video in two
    folds. Raises InputError if there are too few videos or n-grams.
    """
    if len(set(videos)) < max(FOLDS, least):
        raise InputError(f"{len(set(videos))} videos have words and labels; needed are {max(FOLDS, least)}")
    vectorizer = CountVectorizer(analyzer=lambda of: {*of, *map(" ".join, zip(of, of[1:], strict=False))})
    counted = vectorizer.fit_transform(tokens).tocsc()
    names, codes = np.array(vectorizer.get_feature_names_out()), pd.factorize(videos)[0]
    in_videos = np.array(
        [len(set(codes[counted.indices[a:b]])) for a, b in zip(counted.indptr, counted.indptr[1:], strict=False)]
    )
    often = in_videos >= least
    if often.sum() < 2 * top:
        raise InputError(f"{often.sum()} words and pairs are in {least} videos or more; needed are {2 * top}")
    names, in_videos = names[often], in_videos[often]
    said = np.column_stack([np.ones(len(tokens)), np.log1p([len(of) for of in tokens])])
    inputs = _without(said, counted[:, often].toarray().astype(float), np.ones(len(tokens)))
    inputs /= np.maximum(inputs.std(0), 1e-9)
    rest = _without(said, targets, np.ones(len(tokens)))
    predicted = predict_out_of_fold(inputs, np.ones(len(tokens), bool), rest, assign_folds(videos))
    penalty = PENALTIES[int(np.argmin(np.abs(predicted - rest).mean((1, 2))))]

    def weights(of_clips: np.ndarray) -> np.ndarray:
        x, y = (_without(said, values, of_clips) for values in (inputs, targets))
        weighted = x.T * of_clips
        return solve(weighted @ x + penalty * np.eye(x.shape[1]), weighted @ y, assume_a="pos")

    whole, rng = weights(np.ones(len(tokens))), np.random.default_rng(seed)
    count, drawn = codes.max() + 1, []
    same_sign, in_top = np.zeros_like(whole), np.zeros_like(whole)
    for _ in range(resamples):
        one = weights(np.bincount(rng.integers(count, size=count), minlength=count)[codes].astype(float))
        drawn.append(one.astype(np.float32))
        same_sign += np.sign(one) == np.sign(whole)
        signed = one * np.sign(whole)
        highest, lowest = np.sort(one, 0)[-top], np.sort(-one, 0)[-top]
        in_top += signed >= np.where(whole > 0, highest, lowest)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    tables = [
        pd.DataFrame(
            {"target": column, "ngram": names, "videos": in_videos, "weight": whole[:, index], "low": low[:, index]}
            | {"high": high[:, index], "same_sign": same_sign[:, index] / resamples}
            | {"in_top": in_top[:, index] / resamples}
        )
        for index, column in enumerate(columns)
    ]
    return pd.concat(tables, ignore_index=True)


def _without(said: np.ndarray, values: np.ndarray, of_clips: np.ndarray) -> np.ndarray:
    """Return what of `values` (N, D) a regression on `said` (N, S), clips weighted by `of_clips`, leaves."""
    weighted = said.T * of_clips
    return values - said @ np.linalg.solve(weighted @ said + 1e-9 * np.eye(said.shape[1]), weighted @ values)
