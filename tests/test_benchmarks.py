"""The rates that tools.benchmarks.predict prints."""

import pytest

from tools.benchmarks.predict import describe_rate


@pytest.mark.parametrize(("seconds", "twice", "rate"), [(10.0, 14.0, "120.0"), (30.0, 60.0, "16.0")])
def test_rate_leaves_out_the_start(seconds: float, twice: float, rate: str) -> None:
    assert describe_rate(8, seconds, twice) == rate


@pytest.mark.parametrize(("twice", "more"), [(7.0, "-3.0"), (10.0, "+0.0"), (10.5, "+0.5")])
def test_rate_within_the_noise_is_not_measurable(twice: float, more: str) -> None:
    text = f"not measurable: 8 more clips took {more} s; use an idle machine or a larger --many"
    assert describe_rate(8, 10.0, twice) == text
