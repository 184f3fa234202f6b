"""Assign the faces of a frame to tracks, each to at most one; without SciPy, which takes half a second to load."""

import numpy as np


def assign(costs: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of row and column with the lowest total of `costs` (R, C), min(R, C) pairs in the order of rows.

    The Hungarian algorithm with shortest augmenting paths (Jonker and Volgenant 1987, A shortest augmenting path algorithm
    for dense and sparse linear assignment problems).
    """
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in assign(costs.T))
    rows, columns = costs.shape
    row_prices, column_prices = np.zeros(rows), np.zeros(columns + 1)
    row_of = np.full(columns + 1, -1)  # the last column stands for the row that is being assigned
    for row in range(rows):
        row_of[columns], column = row, columns
        lengths, previous = np.full(columns, np.inf), np.full(columns, columns)
        is_done = np.zeros(columns + 1, bool)
        while row_of[column] >= 0:
            is_done[column] = True
            reduced = costs[row_of[column]] - row_prices[row_of[column]] - column_prices[:columns]
            is_shorter = ~is_done[:columns] & (reduced < lengths)
            lengths[is_shorter], previous[is_shorter] = reduced[is_shorter], column
            column = int(np.where(is_done[:columns], np.inf, lengths).argmin())
            shift = lengths[column]
            row_prices[row_of[is_done]] += shift
            column_prices[is_done] -= shift
            lengths[~is_done[:columns]] -= shift
        while column != columns:
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
    return sorted((int(row_of[column]), column) for column in range(columns) if row_of[column] >= 0)
