"""Compare float32 results that may differ by rounding, because CPUs and threads add in different orders."""

import torch
from torch import Tensor


def rounding(values: Tensor, additions: int) -> float:
    """Return the largest difference that rounding can explain between values that result from `additions` additions.

    An addition rounds by up to half of float32's epsilon times the magnitude; n of them, independent, make an error with a
    standard deviation below sqrt(n) epsilons. Four standard deviations are allowed.
    """
    return 4 * torch.finfo(torch.float32).eps * values.abs().max().item() * additions**0.5


def assert_same(actual: Tensor, expected: Tensor, additions: int) -> None:
    """Assert that two results differ only by rounding."""
    torch.testing.assert_close(actual, expected, atol=rounding(expected, additions), rtol=0)
