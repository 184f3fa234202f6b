"""Scores on a single corpus, and the drop from regressions that are fitted to the corpus itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.scoring import ceilings
from lib.scoring.bootstrap import MIN_VIDEOS, Bootstrap, estimate_intervals, score_with_intervals, sum_by_video
from lib.scoring.scores import MOMENTS, compute_moments, scores_from_moments

SCORES = ("accuracy", "pearson", "spearman")
TRAINING, WITHIN, DROP = "training", "within_corpus", "drop"
"""Fits: by the model's training clips; by the scored corpus itself; and the scores of `within_corpus` minus those
of `training`."""
COLUMNS = (
    "targets", "corpus", "trained", "clips", "videos", "predictor", "fit", "score", "target", "value", "low", "high", "p",
)  # fmt: skip


@dataclass(frozen=True)
class CorpusClips:
    """The labelled clips of a corpus, and the predictions of one target group for them.

    columns: the K targets with labels. actual (N, K): labels, NaN where unknown. predictions: arrays (N, K) by predictor.
    within_corpus: arrays (N, K) by predictor, of regressions that are fitted to the corpus itself. trained: whether the
    model was trained on clips of the corpus. reliability (K,): of the labels, NaN where unknown;
    None if it is unknown for all.
    """

    columns: Sequence[str]
    actual: np.ndarray
    videos: np.ndarray
    predictions: Mapping[str, np.ndarray]
    within_corpus: Mapping[str, np.ndarray]
    trained: bool
    span: float
    reliability: np.ndarray | None = None


def align_ranks(labels: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return labels (N, K) replaced by the quantiles of the training labels (M, K) with the same ranks; NaN stays NaN."""
    from scipy.stats import rankdata  # it takes half a second to load

    aligned = labels.copy()
    for column in range(labels.shape[1]):
        labelled, reference = np.isfinite(labels[:, column]), training[np.isfinite(training[:, column]), column]
        if labelled.any() and len(reference):
            quantiles = (rankdata(labels[labelled, column]) - 0.5) / labelled.sum()
            aligned[labelled, column] = np.quantile(reference, quantiles)
    return aligned


def score_corpus(clips: CorpusClips, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return a row for each predictor, fit, score and target ("mean" and each column): value, low, high, and p.

    Scores are SCORES; low and high are ends of the 95 % bootstrap interval over videos. `drop` is the score of the ridge
    regression that is fitted to the corpus itself (`predict_out_of_fold_ridge`) minus that of the predictor, on the same
    clips; its interval uses the same resamples for both. p: of a correlation (`permute_correlation`). The predictor CEILING
    has the ceilings of r, where they are known.
    """
    tables = []
    for fit, predictions in ((TRAINING, clips.predictions), (WITHIN, clips.within_corpus)):
        for name, values in predictions.items():
            rows = score_with_intervals(
                clips.actual, values, clips.actual, clips.videos, clips.columns, span=clips.span, bootstrap=bootstrap
            )
            rows = rows[rows["score"].isin(SCORES)].assign(predictor=name, fit=fit, p=np.nan)
            is_tested = (rows["score"] == "pearson") & rows["value"].notna() & (len(set(clips.videos)) >= MIN_VIDEOS)
            if is_tested.any():
                p = permute_correlation(clips.actual, values, clips.videos, bootstrap)
                rows.loc[rows["score"] == "pearson", "p"] = p
            tables.append(rows)
    tables += [_measure_drop(clips, name, bootstrap) for name in clips.within_corpus]
    if clips.reliability is not None:
        bounds = ceilings.tabulate(ceilings.bound_scores(clips.reliability), clips.columns)
        bounds = bounds[bounds["score"].isin(SCORES)].assign(predictor=ceilings.CEILING, fit=TRAINING, p=np.nan)
        tables += [bounds] if len(bounds) else []
    table = pd.concat(tables, ignore_index=True).dropna(subset="value")
    return table.assign(clips=len(clips.actual), videos=len(set(clips.videos)))


def _measure_drop(clips: CorpusClips, name: str, bootstrap: Bootstrap) -> pd.DataFrame:
    pair = clips.within_corpus[name], clips.predictions[name]
    moments = [compute_moments(clips.actual, values, clips.actual) for values in pair]

    def subtract(sums: np.ndarray) -> dict[str, np.ndarray]:
        best, other = (scores_from_moments(part, clips.span) for part in (sums[..., :MOMENTS], sums[..., MOMENTS:]))
        return {score: best[score] - other[score] for score in SCORES}

    sums = sum_by_video(np.concatenate(moments, -1), clips.videos)
    return estimate_intervals(sums, subtract, clips.columns, bootstrap).assign(predictor=name, fit=DROP, p=np.nan)


def permute_correlation(
    actual: np.ndarray, predicted: np.ndarray, videos: np.ndarray, bootstrap: Bootstrap
) -> np.ndarray:
    """Return p (K + 1,), the mean over columns first, of a two-sided permutation test of Pearson's correlation.

    Labels and predictions are averaged within videos; under the null hypothesis, the predictions of videos can be exchanged
    (Good 2005). Arrays are (N, K), `actual` is NaN where unknown; videos (N,).
    """
    counts = sum_by_video(np.isfinite(actual).astype(float), videos)
    clips = sum_by_video(np.ones(len(videos)), videos)
    with np.errstate(invalid="ignore"):
        labels = sum_by_video(np.nan_to_num(actual), videos) / counts
    means, rng = sum_by_video(predicted, videos) / clips[:, None], bootstrap.rng()
    observed = np.abs(_correlate(labels, means))
    extreme = np.zeros(len(observed))
    for _ in range(bootstrap.resamples):
        extreme += np.abs(_correlate(labels, means[rng.permutation(len(means))])) >= observed - 1e-12
    return np.where(np.isfinite(observed), (1 + extreme) / (1 + bootstrap.resamples), np.nan)


def _correlate(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return Pearson's correlations (K + 1,), their mean first, of values (V, K), over the videos with a label."""
    labelled = np.isfinite(labels)
    count = labelled.sum(0)
    a, b = (np.where(labelled, values, 0) for values in (labels, predicted))
    a, b = (np.where(labelled, values - values.sum(0) / count, 0) for values in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.concatenate([[r.mean()], r])
