"""Scores of targets with their intervals and ranks, the training labels that they are compared with, and their names."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lib.core.estimates import INTERVAL_LEVEL

PARTS = ("low", "high", "percentile")

Names = dict[tuple[str, str], str]
"""The name of each column of scores, by target group and column."""


@dataclass(frozen=True)
class Estimate:
    """The prediction of one target, in the label's own units.

    low, high: ends of the interval, which contains the label of a fraction `level` of clips similar to the validation clips
    (lib/scoring/conformal.py); None if too few validation clips have a label. percentile: percentage of training clips with
    a lower label; None if no training label is known. scale: predicted standard deviation of the label; None for heads that
    do not predict it.
    """

    score: float
    low: float | None
    high: float | None
    percentile: float | None
    scale: float | None = None
    level: float = INTERVAL_LEVEL

    @property
    def interval_name(self) -> str:
        """The name of the interval, such as "90 % interval"."""
        return f"{100 * self.level:g} % interval"


Estimates = Mapping[str, Mapping[str, Estimate]]
"""Estimates by target group and column."""


@dataclass(frozen=True)
class Window:
    """The prediction of a part of a clip, from `start` to `end` in seconds.

    usable_fraction: fraction of time steps that could be used, for instance with a face (mean over the streams that the
    clip has). A window that can't be used has no targets; `rejected` is the reason.
    """

    start: float
    end: float
    targets: Estimates
    usable_fraction: float
    rejected: str


class Labels(NamedTuple):
    """The training labels of a target group.

    range: lowest and highest possible label. quantiles: the 5, 25, 50, 75 and 95 % quantiles of the labels by column, for
    columns with labels.
    """

    range: tuple[float, float]
    quantiles: Mapping[str, list[float]]


def name_columns(columns: Mapping[str, Iterable[str]], others: Iterable[str] = ()) -> Names:
    """Return the names of the columns of scores, given the columns of each target group.

    The group's name is added if two groups have the same column, or if the name is a column of every table or one of
    `others`.
    """
    count = Counter(column for names in columns.values() for column in names)
    reserved = {"clip", "start", "end", "usable fraction", "warnings", "rejected", "model", "options", *others}
    reserved |= {f"{column} {part}" for column in count for part in PARTS}
    return {
        (group, column): f"{column} ({group})" if count[column] > 1 or column in reserved else column
        for group, names in columns.items()
        for column in names
    }


def describe_rank(percentile: float) -> str:
    """Return a percentile in words."""
    if percentile >= 100:
        return "higher than all training clips"
    if percentile <= 0:
        return "lower than all training clips"
    return f"higher than {min(max(round(percentile), 1), 99)} % of training clips"
