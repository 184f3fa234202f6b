"""Patterns of two states over a clip whose mean, and whose product with a shifted copy, carry nothing."""

from itertools import product

import numpy as np

_HALVES = [np.array(half) for half in product((1, -1), repeat=4) if sum(half) == 0]
PATTERNS = [np.concatenate([first, second]) for first in _HALVES for second in _HALVES if not first @ second]
"""All patterns (8,) of 1 and -1 with as many of both in each half, whose halves are uncorrelated."""


def draw_pattern(steps: int, rng: np.random.Generator) -> np.ndarray:
    """Return 1 or -1 for each of `steps` steps: a random one of PATTERNS, rotated by a random number of steps.

    Each state lasts an eighth of the clip or longer. The mean is 0. The correlation with the same pattern half a clip later,
    around its end, is 0 as well.
    """
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    return np.roll(pattern[8 * np.arange(steps) // steps], rng.integers(steps))
