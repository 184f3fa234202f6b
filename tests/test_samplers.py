"""Samplers: which time steps of a clip are read."""

import numpy as np
import pytest

from lib.data.inputs import EncoderSettings
from lib.data.samplers import SAMPLERS, jitter_steps

PRESENT = np.array([0, 1, 2, 4, 5, 7, 8, 9, 11, 12])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("all", PRESENT.tolist()),
        ("parts", [1, 7, 11]),
        ("window", [4, 5, 7]),
        ("uniform", [0, 5, 12]),
    ],
)
def test_sampler_without_generator_is_fixed(name: str, expected: list[int]) -> None:
    assert SAMPLERS[name].choose(PRESENT, 3, None).tolist() == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_varies_with_generator_only_if_random(name: str) -> None:
    draws = {tuple(SAMPLERS[name].choose(PRESENT, 3, np.random.default_rng(seed))) for seed in range(20)}
    assert (len(draws) > 1) == SAMPLERS[name].random
    assert all(list(steps) == sorted(steps) and set(steps) <= set(PRESENT) for steps in draws)


@pytest.mark.parametrize("name", SAMPLERS)
def test_encoder_inputs_accept_each_sampler(name: str) -> None:
    assert EncoderSettings(kind="vectors", reads=["audio"], take=name, steps=3).is_random == SAMPLERS[name].random


def test_jittered_steps_move_by_up_to_the_stated_number() -> None:
    chosen = PRESENT[[0, 4, 9]]
    drawn = np.array([jitter_steps(PRESENT, chosen, 2, np.random.default_rng(seed)) for seed in range(200)])
    places = np.searchsorted(PRESENT, drawn)
    assert np.isin(drawn, PRESENT).all()
    assert set(places[:, 1]) == {2, 3, 4, 5, 6}
    assert set(places[:, 0]) == {0, 1, 2}
    assert set(places[:, 2]) == {7, 8, 9}
    assert (np.diff(jitter_steps(PRESENT, PRESENT, 3, np.random.default_rng(0))) >= 0).all()
    assert jitter_steps(PRESENT[:0], PRESENT[:0], 3, np.random.default_rng(0)).size == 0
