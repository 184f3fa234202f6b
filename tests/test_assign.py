"""Assignment of faces to tracks, compared with SciPy's."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from lib.streams.faces.assign import assign


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 3), (2, 7), (6, 3), (9, 9)])
def test_assign_equals_scipys_assignment(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for _ in range(20):
        costs = rng.normal(size=shape)
        assert assign(costs) == list(zip(*(part.tolist() for part in linear_sum_assignment(costs)), strict=True))


def test_assign_with_equal_costs_has_the_lowest_total() -> None:
    costs = -np.random.default_rng(0).integers(0, 2, (5, 4)).astype(float)
    assert sum(costs[pair] for pair in assign(costs)) == costs[linear_sum_assignment(costs)].sum()
    assert assign(np.zeros((0, 3))) == []
