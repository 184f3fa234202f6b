"""Scores for groups of persons: of each group, of its difference to the others, and of the largest gap."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import MIN_VIDEOS, Bootstrap, count_videos, interval_rows, resample, sum_by_video
from lib.scoring.scores import MOMENTS, compute_moments, prepend_mean, scores_from_moments

MIN_CLIPS = 30
"""An intersection of two groups is shown if it has at least this number of clips. The standard deviation of a model's error
is about a tenth of the range, so with fewer clips the 95 % interval of a mean error is wider than ±0.036 of the range."""


def score_groups(
    actual: np.ndarray,
    predicted: np.ndarray,
    baseline: np.ndarray,
    videos: np.ndarray,
    person_groups: np.ndarray,
    target_group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the rows of `score_with_intervals` for each group of clips, for its difference to the others, and for the gap.

    person_groups (N,): the name of each clip's group of persons, empty for clips without a group. target_group: of the K
    targets. Columns before those of `score_with_intervals`: what, group, clips, videos. what is "value", the group's score;
    "difference", that score minus the score of the clips of all other groups, with the same resamples for both; or "gap",
    the highest score of a group minus the lowest, among groups with labels for at least MIN_VIDEOS videos. `group` names
    the two groups of a gap. A gap has no interval, because the same data select the two groups.
    """
    names = _list_names(person_groups)
    moments = _group_moments(actual, predicted, baseline, person_groups, names)
    sums = sum_by_video(moments, videos)  # (V, G, 2, K, MOMENTS)
    scores_from_sums = partial(scores_from_moments, span=target_group.span)
    return _tabulate(sums, scores_from_sums, videos, person_groups, target_group.columns, bootstrap)


def average_groups(
    score: str,
    values: np.ndarray,
    videos: np.ndarray,
    person_groups: np.ndarray,
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the rows of `score_groups` for the mean of `values` (N, K) in each group; NaN where a clip has no value."""
    is_known, names = np.isfinite(values), _list_names(person_groups)
    parts = np.where(is_known[..., None], np.stack([is_known, values], -1), 0.0)  # (N, K, 2)
    sides = np.stack([_split_members(person_groups, name) for name in names]).transpose(2, 0, 1)  # (N, G, 2)
    sums = sum_by_video(sides[..., None, None] * parts[:, None, None], videos)  # (V, G, 2, K, 2)

    def average(total: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return prepend_mean({score: total[..., 1] / total[..., 0]})

    return _tabulate(sums, average, videos, person_groups, columns, bootstrap)


def cross_groups(persons: pd.DataFrame) -> pd.DataFrame:
    """Return a column `KIND × KIND` for each two columns of `persons`, with groups such as `female, old`.

    A clip has an empty text if one of its groups is unknown, or if the intersection has fewer than MIN_CLIPS clips.
    Two columns with fewer than two such intersections are left out, and so is a column with one group.
    """
    crossed = {}
    kinds = [kind for kind, groups in persons.items() if groups[groups != ""].nunique() > 1]
    for first, second in combinations(kinds, 2):
        has_both = persons[first].ne("") & persons[second].ne("")
        names = (persons[first] + ", " + persons[second]).where(has_both, "")
        counts = names[has_both].value_counts()
        large = counts.index[counts >= MIN_CLIPS]
        if len(large) > 1:
            crossed[f"{first} × {second}"] = names.where(names.isin(large), "")
    return pd.DataFrame(crossed, index=persons.index)


def _list_names(person_groups: np.ndarray) -> list[str]:
    return [name for name in np.unique(person_groups) if name]


def _split_members(person_groups: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which clips (N,) belong to the group with this name, and which to any other group."""
    members = person_groups == name
    return members, ~members & (person_groups != "")


def _tabulate(
    sums: np.ndarray,
    scores_from_sums: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    videos: np.ndarray,
    person_groups: np.ndarray,
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the rows of `score_groups`. sums: (V, G, 2, K, M), the first of the M counts clips with a value.
    scores_from_sums: converts sums over videos to {score: (..., K + 1)}."""
    names = _list_names(person_groups)
    values = scores_from_sums(sums.sum(0))  # {score: (G, 2, K + 1)}
    resampled = scores_from_sums(resample(sums, bootstrap.resamples, bootstrap.rng()))
    counts = count_videos(sums)  # (G, 2, K + 1)
    tables = []
    for index, name in enumerate(names):
        members, others = _split_members(person_groups, name)
        rows = interval_rows(_select(values, index), _select(resampled, index), counts[index, 0], columns)
        tables.append(_describe(rows, "value", name, videos[members]))
        if others.any():
            differences, drawn = _subtract_others(values, index), _subtract_others(resampled, index)
            rows = interval_rows(differences, drawn, counts[index].min(0), columns)
            tables.append(_describe(rows, "difference", name, videos[members]))
    large = counts[:, 0] >= MIN_VIDEOS  # (G, K + 1)
    if (large.sum(0) > 1).any():
        pairs, rows = _find_gaps(names, values, large, columns)
        tables.append(_describe(rows, "gap", pairs, videos[person_groups != ""]))
    return pd.concat(tables, ignore_index=True)


def _group_moments(
    actual: np.ndarray, predicted: np.ndarray, baseline: np.ndarray, person_groups: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Return the moments (N, G, 2, K, MOMENTS) of the clips in each of G groups, and in all other groups; 0 for all other
    clips."""
    moments = np.zeros((len(actual), len(names), 2, actual.shape[1], MOMENTS))
    for index, name in enumerate(names):
        for side, members in enumerate(_split_members(person_groups, name)):
            if members.any():
                moments[members, index, side] = compute_moments(actual[members], predicted[members], baseline[members])
    return moments


def _select(scores: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """Return the scores (..., K + 1) of a group from {score: (..., G, 2, K + 1)}."""
    return {name: values[..., index, 0, :] for name, values in scores.items()}


def _subtract_others(scores: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """Return a group's scores minus those of all other groups, from {score: (..., G, 2, K + 1)}."""
    return {name: values[..., index, 0, :] - values[..., index, 1, :] for name, values in scores.items()}


def _find_gaps(
    names: Sequence[str], values: Mapping[str, np.ndarray], large: np.ndarray, columns: Sequence[str]
) -> tuple[list[str], pd.DataFrame]:
    """Return the rows of the gaps, and for each the two groups "HIGHEST minus LOWEST"; empty where fewer than two groups are
    `large` (G, K + 1)."""
    compared = large.sum(0) > 1
    pairs, gaps = [], {}
    for score, pair in values.items():
        high, low = (np.where(large, pair[:, 0], sign * np.inf) for sign in (-1, 1))
        gaps[score] = np.where(compared, high.max(0) - low.min(0), np.nan)
        for highest, lowest, defined in zip(high.argmax(0), low.argmin(0), compared, strict=True):
            pairs.append(f"{names[highest]} minus {names[lowest]}" if defined else "")
    no_videos = np.zeros(len(compared))  # so that a gap has no interval
    return pairs, interval_rows(gaps, {score: gap[None] for score, gap in gaps.items()}, no_videos, columns)


def _describe(rows: pd.DataFrame, what: str, group: str | list[str], videos: np.ndarray) -> pd.DataFrame:
    """Return the rows with what, group and the numbers of clips and videos as first columns."""
    described = rows.assign(what=what, group=group, clips=len(videos), videos=len(set(videos)))
    return described[["what", "group", "clips", "videos", *rows.columns]]
