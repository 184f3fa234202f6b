"""Compare results of float32 that may differ by rounding: CPUs, and numbers of threads, add up in different orders."""

import torch
from torch import Tensor


def rounding(values: Tensor, additions: int) -> float:
    """Return the largest difference that rounding explains, of values at whose end are sums of `additions` numbers in all.

    An addition rounds by up to half of float32's epsilon times the magnitude; n of them, independent, make an error with a
    standard deviation below sqrt(n) epsilons. Four standard deviations are allowed.
    """
    return 4 * torch.finfo(torch.float32).eps * values.abs().max().item() * additions**0.5


def assert_same(actual: Tensor, expected: Tensor, additions: int) -> None:
    """Assert that two results are the same but for rounding."""
    torch.testing.assert_close(actual, expected, atol=rounding(expected, additions), rtol=0)
