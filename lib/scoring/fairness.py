"""Accuracy and coverage, and their gaps between two groups of persons, for several settings of a training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import MIN_VIDEOS, Bootstrap, count_videos, interval_rows, resample, sum_by_video
from lib.scoring.scores import prepend_mean


class ModelPredictions(NamedTuple):
    """Predictions and half the widths of their intervals (N, K) of one trained model; infinite without an interval."""

    predicted: np.ndarray
    half_widths: np.ndarray


class ComparedClips(NamedTuple):
    """actual: labels (N, K), NaN where unknown. videos (N,). person_groups (N,): names, '' where unknown. pair: the two
    groups of persons whose difference, first minus second, is a gap. target_group: of the K targets."""

    actual: np.ndarray
    videos: np.ndarray
    person_groups: np.ndarray
    pair: tuple[str, str]
    target_group: TargetGroup


def choose_pair(labels: np.ndarray, videos: np.ndarray, person_groups: np.ndarray) -> tuple[str, str]:
    """Return the groups with the highest and the lowest mean label, of those with MIN_VIDEOS videos or more.

    The mean is over all targets. labels (N, K), videos and person_groups (N,) are those of training clips: errors on test
    clips do not choose the pair, so intervals of its gaps are valid. Raises InputError if fewer than two groups are large
    enough.
    """
    means = {}
    for name in sorted(set(person_groups) - {""}):
        members = person_groups == name
        if len(set(videos[members])) >= MIN_VIDEOS:
            means[str(name)] = float(np.nanmean(labels[members]))
    if len(means) < 2:
        raise InputError(
            f"the training clips have {len(means)} groups with {MIN_VIDEOS} videos or more; allowed: two or more; choose"
            " another column of data/groups.csv"
        )
    return max(means, key=means.__getitem__), min(means, key=means.__getitem__)


def compare_settings(
    settings: Mapping[str, Sequence[ModelPredictions]], clips: ComparedClips, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Return a row for each setting, measure and target ("mean" and each column).

    settings: by name, a run for each seed; the others are compared with the first setting. Measures:
    accuracy (1 - MAE / span) and coverage over all clips; and differences, first group of the pair minus the second, of the
    labels (which no setting changes), predictions, signed errors, accuracy and coverage. value: mean over seeds. low, high:
    ends of its 95 % interval over videos; all seeds and settings use the same resamples. seed_std: standard deviation over
    seeds. change, change_low, change_high: value minus that of the first setting. Intervals need MIN_VIDEOS videos of both
    groups.
    """
    columns, span, tables, first = clips.target_group.columns, clips.target_group.span, [], None
    for name, runs in settings.items():
        terms = [_list_terms(run, clips) for run in runs]
        sums = sum_by_video(np.mean(terms, axis=0), clips.videos)  # (V, 3, K, 6)
        values = _measure(sums.sum(0), span)
        drawn = _measure(resample(sums, bootstrap.resamples, bootstrap.rng()), span)
        videos = count_videos(sums).min(0)
        first = first or (values, drawn)
        rows = interval_rows(values, drawn, videos, columns).rename(columns={"score": "measure"})
        changes = interval_rows(_subtract(values, first[0]), _subtract(drawn, first[1]), videos, columns)
        of_seeds = [np.concatenate([*_measure(seed_terms.sum(0), span).values()]) for seed_terms in terms]
        rows["seed_std"] = np.std(of_seeds, axis=0, ddof=1) if len(runs) > 1 else np.nan
        for source, target in (("value", "change"), ("low", "change_low"), ("high", "change_high")):
            rows[target] = changes[source]
        tables.append(rows.assign(setting=name, seeds=len(runs)))
    table = pd.concat(tables, ignore_index=True)
    return table[["setting", "seeds", *(name for name in table if name not in ("setting", "seeds"))]]


def _list_terms(run: ModelPredictions, clips: ComparedClips) -> np.ndarray:
    """Return the terms (N, 3, K, 6) of all clips and of each group of the pair: label known, label, signed error, absolute
    error, label inside the interval, interval known."""
    has_label = np.isfinite(clips.actual)
    bounded = has_label & np.isfinite(run.half_widths)
    error = run.predicted - clips.actual
    parts = [has_label, clips.actual, error, np.abs(error), bounded & (np.abs(error) <= run.half_widths), bounded]
    terms = np.where(has_label[..., None], np.stack(parts, -1), 0.0)
    sides = np.stack([np.ones(len(has_label), bool), *(clips.person_groups == name for name in clips.pair)], 1)
    return sides[..., None, None] * terms[:, None]


def _measure(sums: np.ndarray, span: float) -> dict[str, np.ndarray]:
    """Return {measure: (..., K + 1)} from sums (..., 3, K, 6) over clips."""
    with np.errstate(divide="ignore", invalid="ignore"):
        label, error, absolute = (sums[..., index] / sums[..., 0] for index in range(1, 4))
        coverage = sums[..., 4] / sums[..., 5]
    accuracy = 1 - absolute / span
    differences = {
        "label_difference": label,
        "prediction_difference": label + error,
        "error_difference": error,
        "accuracy_difference": accuracy,
        "coverage_difference": coverage,
    }
    return prepend_mean(
        {"accuracy": accuracy[..., 0, :], "coverage": coverage[..., 0, :]}
        | {name: values[..., 1, :] - values[..., 2, :] for name, values in differences.items()}
    )


def _subtract(values: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value - others[name] for name, value in values.items()}
