"""Labels and features that lie far outside their distribution, for the data sheet."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.core.targets import Targets

FAR = 10.0
"""A value is an outlier from this number of standard deviations around its mean over training clips."""
WIDEST = 1000
"""Wider vectors, such as hashed words, are left out: nearly all of their numbers are rare."""
MOST = 20
"""Largest number of outliers that are listed for each stream and for the labels."""
_COLUMNS = ["kind", "name", "column", "clip", "split", "value", "deviations"]


def find_outliers(
    training: pd.DataFrame, clips: pd.DataFrame, targets: Targets, vectors: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Return the outliers among the labels and the features of `clips`, the largest first for each kind and name.

    kind: label or feature. name: `labels`, or the name of the vectors; parts NAME.PART replace the vector NAME. column: the
    target, or the feature's position in the vectors NAME, from 0. deviations: distance from the training mean in standard
    deviations. A clip is listed once for each name, with its largest distance. training, clips: tables with clip, split and
    the targets.
    """
    divided = {name.partition(".")[0] for name in vectors if "." in name}
    columns = dict.fromkeys(column for target_group in targets.values() for column in target_group.columns)
    tables = [_find("label", "labels", training["clip"], clips, clips.set_index("clip")[list(columns)])]
    tables += [
        _find("feature", name, training["clip"], clips, table)
        for name, table in vectors.items()
        if name not in divided and table.shape[1] <= WIDEST
    ]
    return pd.concat(tables, ignore_index=True)


def _find(kind: str, name: str, training: pd.Series, clips: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    with_values = clips[clips["clip"].isin(values.index)]
    numbers = values.loc[with_values["clip"]].to_numpy(float)
    fitted = values[values.index.isin(training)].to_numpy(float)
    if not len(fitted) or not len(numbers):
        return pd.DataFrame(columns=_COLUMNS)
    counted = np.isfinite(fitted).sum(0)
    mean = np.nansum(fitted, 0) / np.maximum(counted, 1)
    std = np.sqrt(np.nansum((fitted - mean) ** 2, 0) / np.maximum(counted, 1))
    std = np.where((counted > 1) & (std > 1e-9 * (1 + np.abs(mean))), std, np.inf)  # a constant has no outlier
    distances = np.nan_to_num(np.abs(numbers - mean) / std)
    largest, rows = distances.argmax(1), np.arange(len(numbers))
    # a part of a vector has the columns of the vector: count from the part's first number
    columns = np.array([label if isinstance(label, str) else str(index) for index, label in enumerate(values.columns)])
    table = with_values[["clip", "split"]].assign(kind=kind, name=name, column=columns[largest])
    table = table.assign(value=numbers[rows, largest], deviations=distances[rows, largest])[_COLUMNS]
    table = table[table["deviations"] >= FAR]
    return table.sort_values("deviations", ascending=False, kind="stable").head(MOST)
