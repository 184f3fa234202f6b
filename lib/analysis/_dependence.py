"""Values of named measures at which partial dependence is measured, and inputs whose measures are set to them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.analysis._inputs import copy_inputs
from lib.data.batch import Inputs
from lib.data.inputs import split_reference
from lib.streams._measures import ARRAYS

QUANTILES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Quantiles of a feature over the clips at which partial dependence is measured."""

_, STATISTICS = ARRAYS


class Feature(NamedTuple):
    """A statistic of a named measure, or all statistics of a group of measures.

    name: STREAM.MEASURE.STATISTIC, or the name of a group. kind: stream and group. at (Q,): the feature's value at each of
    QUANTILES; for a group, its position on the first principal component. values (Q,): to set, by
    STREAM.MEASURE.STATISTIC. towards: for a group, the statistic with the largest weight, which grows with `at`.
    """

    name: str
    kind: str
    at: np.ndarray
    values: Mapping[str, np.ndarray]
    towards: str = ""


def find_features(
    statistics: Mapping[str, tuple[pd.DataFrame, Mapping[str, str]]], clips: Sequence[str], group_word: str
) -> list[Feature]:
    """Return the groups and the single statistics that vary over `clips`, groups first.

    statistics: by stream, a table with a row for each clip and columns MEASURE.STATISTIC, and the group of each measure.
    group_word: first word of the name of a group.
    """
    groups, singles = list[Feature](), list[Feature]()
    for stream, (table, group_of) in statistics.items():
        varying = table.reindex(clips)
        varying = varying.loc[:, varying.nunique() > 1].add_prefix(f"{stream}.").astype(float)
        kinds = pd.Series([group_of[name.split(".")[1]] for name in varying], varying.columns, dtype=object)
        for group in dict.fromkeys(kinds):
            groups.append(_move_group(varying[kinds.index[kinds == group]], f"{group_word} {stream} {group}"))
        for name, values in varying.items():
            points = values.quantile(QUANTILES).to_numpy()
            singles.append(Feature(str(name), f"{stream} {kinds[name]}", points, {str(name): points}))
    return groups + singles


def _move_group(table: pd.DataFrame, name: str) -> Feature:
    """Return the feature that moves all columns of a table together, along their first principal component.

    Columns are standardised. The component's sign makes the largest weight positive.
    """
    mean, std = table.mean(), table.std(ddof=0)
    standardised = ((table - mean) / std).fillna(0).to_numpy()
    weights = np.linalg.svd(standardised, full_matrices=False)[2][0]
    largest = int(np.abs(weights).argmax())
    weights = weights * np.sign(weights[largest])
    points = np.quantile(standardised @ weights, QUANTILES)
    values = {
        column: mean[column] + std[column] * points * weight
        for column, weight in zip(table, weights.tolist(), strict=True)
    }
    return Feature(name, name.partition(" ")[2], points, values, table.columns[largest])


def is_read(feature: Feature, names: Mapping[str, Sequence[str]]) -> bool:
    """Return whether `set_measures` changes a number for this feature; `names` as there."""
    return any(_find_column(reference, name) in feature.values for reference in names for name in names[reference])


def set_measures(inputs: Inputs, names: Mapping[str, Sequence[str]], values: Mapping[str, float]) -> Inputs:
    """Return a clip's inputs with statistics set to `values`, by STREAM.MEASURE.STATISTIC.

    names: by reference of an encoder, the names of its columns. In an array of steps, all steps of a measure are shifted by
    the same amount, so that their mean is the value of STREAM.MEASURE.mean; other statistics do not change them.
    """
    changed = copy_inputs(inputs)
    for encoder, read in inputs.items():
        for reference in names.keys() & read.keys():
            steps = read[reference]
            if not len(steps.times):
                continue
            numbers = steps.values.copy()
            for column, name in enumerate(names[reference]):
                value = values.get(_find_column(reference, name))
                if value is not None and split_reference(reference)[1] == STATISTICS:
                    numbers[:, column] = value
                elif value is not None and np.isfinite(numbers[:, column]).any():
                    numbers[:, column] += value - np.nanmean(numbers[:, column])
            changed[encoder][reference] = steps._replace(values=numbers)
    return changed


def _find_column(reference: str, name: str) -> str:
    """Return the statistic that a column of an encoder's input follows."""
    stream, array = split_reference(reference)
    return f"{stream}.{name}" if array == STATISTICS else f"{stream}.{name}.mean"
