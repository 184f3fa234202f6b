"""Fairness between groups of persons: the values of train.fairness, and weights of clips."""

import numpy as np

NONE, BALANCED = "none", "balanced"
UNKNOWN = -1
"""The code of a clip whose group is not known. Such clips have no effect on weights and terms."""

_MOST_BINS = 5
_SMALLEST_CELL = 5
"""Smallest number of clips of a group in a bin of labels. With fewer, single clips would have large weights."""

TERMS = ("adversarial", "matching")
"""The names of the terms in lib/training/fairness_terms.py."""
FAIRNESS = (NONE, BALANCED, *TERMS)
"""Values of train.fairness."""


def balance_groups(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return weights (N, K) with which all groups have the same sum of weights, if possible in each bin of labels.

    labels (N, K): NaN where unknown. groups (N,): codes from 0, or UNKNOWN. A clip of group s and bin y has the weight
    n(y) / (G n(s, y)), where n are numbers of clips and G is the number of groups. This is reweighing (Kamiran and Calders
    2012, Data preprocessing techniques for classification without discrimination, section 5.3), for which group and label
    are independent, here with equal shares of the groups. Bins are quantiles of each target's labels: the largest number of
    bins up to 5 for which each group has 5 clips in each bin. One bin is the inverse frequency of the group alone. Clips
    without group or label have the weight 1, the mean of the others.
    """
    weights = np.ones(labels.shape)
    for column, values in enumerate(labels.T):
        rows = np.flatnonzero(np.isfinite(values) & (groups != UNKNOWN))
        if not len(rows):
            continue
        names, codes = np.unique(groups[rows], return_inverse=True)
        for number in range(_MOST_BINS, 0, -1):
            edges = np.quantile(values[rows], np.linspace(0, 1, number + 1)[1:-1])
            bins = np.searchsorted(edges, values[rows], side="right")
            cells = np.zeros((number, len(names)))
            np.add.at(cells, (bins, codes), 1)
            if cells.min() >= _SMALLEST_CELL or number == 1:
                break
        weights[rows, column] = cells.sum(1)[bins] / (len(names) * cells[bins, codes])
    return weights
