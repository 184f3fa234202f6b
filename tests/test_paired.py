"""Paired comparisons: by hand, against scipy, and by simulation of a known truth."""

import numpy as np
import pytest
from scipy import stats

from lib.scoring import paired
from lib.scoring.scores import Bootstrap
from tests.test_scores import group_of

FIVE = ("a", "b", "c", "d", "e")


def clustered(rng: np.random.Generator, videos: int, clips: int, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Gains (N, 6) of mean 0 with a part that a video's clips share, and their videos."""
    of_video = np.repeat(np.arange(videos), clips)
    gains = rng.normal(0, 1, (videos * clips, 6)) + shared * rng.normal(0, 1, (videos, 6))[of_video]
    return gains, of_video


def test_holm_by_hand() -> None:
    assert paired.adjust_p(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.adjust_p(np.array([0.9, 0.8])) == pytest.approx([1, 1])


def test_a_difference_and_its_p_value_agree_with_scipys() -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(0.3, 1, (40, 6))
    found = paired.compare_errors(np.zeros((40, 6)), gains, np.arange(40), Bootstrap(10_000, 0))
    assert found["difference"] == pytest.approx([gains.mean(), *gains.mean(0)])
    for column in range(6):
        reference = stats.permutation_test(
            (gains[:, column],), np.mean, permutation_type="samples", n_resamples=10_000, rng=1
        )
        assert found["p"][1 + column] == pytest.approx(reference.pvalue, abs=0.015)
        low, high = stats.bootstrap((gains[:, column],), np.mean, method="percentile", rng=1).confidence_interval
        assert (found["low"][1 + column], found["high"][1 + column]) == pytest.approx((low, high), abs=0.03)


def test_intervals_hold_the_truth_and_naive_ones_do_not() -> None:
    """1000 test sets a column of clips clustered in videos: the truth is 0."""
    held = naive = wrong = 0
    sets = 170  # of six columns
    for number in range(sets):
        gains, videos = clustered(np.random.default_rng(number), 120, 4, shared=1.0)
        for clusters in (videos, np.arange(len(gains))):
            found = paired.compare_errors(np.zeros_like(gains), gains, clusters, Bootstrap(600, number))
            inside = int(((found["low"] <= 0) & (found["high"] >= 0))[1:].sum())
            if clusters is videos:
                held += inside
                wrong += int((found["p"][1:] < 0.05).sum())
            else:
                naive += inside
    assert 0.93 <= held / (6 * sets) <= 0.97
    assert naive / (6 * sets) < 0.85
    assert 0.035 <= wrong / (6 * sets) <= 0.065


def test_the_smallest_difference_is_found_four_times_in_five() -> None:
    found = []
    gains, videos = clustered(np.random.default_rng(0), 150, 3, shared=0.7)
    smallest = paired.compare_errors(np.zeros_like(gains), gains, videos, Bootstrap(1000, 0))["smallest"][1:].mean()
    for number in range(60):
        gains, videos = clustered(np.random.default_rng(1 + number), 150, 3, shared=0.7)
        found += (
            paired.compare_errors(np.zeros_like(gains), gains + smallest, videos, Bootstrap(500, number))["p"][1:]
            < 0.05
        ).tolist()
    assert 0.73 <= np.mean(found) <= 0.87


def test_the_table_averages_seeds_and_knows_its_baseline() -> None:
    rng = np.random.default_rng(0)
    actual, videos = rng.uniform(size=(60, 5)), np.repeat(np.arange(20), 3)
    near, far = actual + 0.1, [actual + 0.2, actual - 0.3]
    table = paired.compare_predictors(
        {"far": far, "near": [near]}, actual, videos, "far", group_of(1), Bootstrap(200, 0)
    )
    table = table.set_index(["predictor", "target"])
    assert table.loc[("far", "mean"), "accuracy"] == pytest.approx(0.75)
    assert table.loc[("far", "e"), "spread"] == pytest.approx(np.std([0.8, 0.7], ddof=1))
    assert np.isnan(table.loc[("far", "mean"), "difference"])
    assert np.isnan(table.loc[("near", "mean"), "spread"])
    assert table.loc[("near", "e"), "difference"] == pytest.approx(0.15)
    assert table.loc[("near", "e"), ["low", "high"]].tolist() == pytest.approx([0.15, 0.15])
    assert table.loc[("near", "e"), "p"] < 0.01


def test_p_is_corrected_over_all_predictors() -> None:
    rng = np.random.default_rng(0)
    actual, videos = rng.uniform(size=(100, 5)), np.arange(100) // 2
    predictions = {f"p{index}": [actual + rng.normal(0, 0.1 + 0.005 * index, (100, 5))] for index in range(6)}
    found = paired.compare_predictors(predictions, actual, videos, "p0", group_of(1), Bootstrap(500, 0))
    assert found.loc[found["predictor"] == "p0", ["p", "p_holm"]].isna().all(axis=None)
    for family in (found["target"] == "mean", found["target"] != "mean"):
        compared = found[family & (found["predictor"] != "p0")]
        assert compared["p_holm"].tolist() == pytest.approx(paired.adjust_p(compared["p"].to_numpy()))
    assert (found["p_holm"].dropna() > found["p"].dropna()).any()


def test_an_unknown_target_changes_its_own_column_alone() -> None:
    rng = np.random.default_rng(0)
    actual, videos = rng.uniform(1, 7, (60, 5)), np.repeat(np.arange(20), 3)
    predictions = {"near": [actual + rng.normal(0, 0.5, (60, 5))], "far": [actual + rng.normal(0, 1, (60, 5))]}
    lacking, none = actual.copy(), actual.copy()
    lacking[7, 1], none[:, 1] = np.nan, np.nan
    whole, found, empty = (
        paired.compare_predictors(predictions, values, videos, "far", group_of(6), Bootstrap(200, 0)).set_index(
            ["predictor", "target"]
        )
        for values in (actual, lacking, none)
    )
    known = ["a", "c", "d", "e"]
    measured = ["accuracy", "r2", "difference", "low", "high", "p", "smallest"]
    assert found.loc[("near", known), measured].equals(whole.loc[("near", known), measured])
    errors = {name: np.delete(np.abs(of[0] - actual)[:, 1], 7) for name, of in predictions.items()}
    assert found.loc[("near", "b"), "accuracy"] == pytest.approx(1 - errors["near"].mean() / 6)
    assert found.loc[("near", "b"), "difference"] == pytest.approx((errors["far"] - errors["near"]).mean() / 6)
    assert found.loc[("near", "mean"), "difference"] == pytest.approx(found.loc[("near", FIVE), "difference"].mean())
    assert empty.loc[("near", ["mean", "b"]), [*measured, "p_holm"]].isna().all(axis=None)
    four = paired.adjust_p(empty.loc[("near", known), "p"].to_numpy())  # what is not measured costs no correction
    assert empty.loc[("near", known), "p_holm"].tolist() == pytest.approx(four)
