"""Paired comparisons: values by hand, compared with scipy, and simulations with a known truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.core.targets import TargetGroup
from lib.scoring import paired
from lib.scoring.bootstrap import Bootstrap
from tests.test_scores import make_group

FIVE = ("a", "b", "c", "d", "e")


def make_clustered_gains(
    rng: np.random.Generator, videos: int, clips: int, shared: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return gains (N, 6) with mean 0 and a part that the clips of a video share, and the videos (N,)."""
    videos_of_clips = np.repeat(np.arange(videos), clips)
    gains = rng.normal(0, 1, (videos * clips, 6)) + shared * rng.normal(0, 1, (videos, 6))[videos_of_clips]
    return gains, videos_of_clips


def test_adjust_p_equals_holm_by_hand() -> None:
    assert paired.adjust_p(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.adjust_p(np.array([0.9, 0.8])) == pytest.approx([1, 1])


def test_difference_p_and_interval_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(0.3, 1, (40, 6))
    comparison = paired.compare_errors(np.zeros((40, 6)), gains, np.arange(40), Bootstrap(10_000, 0))
    assert comparison["difference"] == pytest.approx([gains.mean(), *gains.mean(0)])
    for column in range(6):
        reference = stats.permutation_test(
            (gains[:, column],), np.mean, permutation_type="samples", n_resamples=10_000, rng=1
        )
        assert comparison["p"][1 + column] == pytest.approx(reference.pvalue, abs=0.015)
        low, high = stats.bootstrap((gains[:, column],), np.mean, method="percentile", rng=1).confidence_interval
        assert (comparison["low"][1 + column], comparison["high"][1 + column]) == pytest.approx((low, high), abs=0.03)


@pytest.mark.slow
def test_video_intervals_cover_the_truth_and_naive_do_not() -> None:
    """About 1000 simulated test sets (170 of six columns) of clips clustered in videos; the true difference is 0."""
    covered = covered_naively = false_positives = 0
    sets = 170  # of six columns
    for number in range(sets):
        gains, videos = make_clustered_gains(np.random.default_rng(number), 120, 4, shared=1.0)
        for clusters in (videos, np.arange(len(gains))):
            comparison = paired.compare_errors(np.zeros_like(gains), gains, clusters, Bootstrap(600, number))
            number_covered = int(((comparison["low"] <= 0) & (comparison["high"] >= 0))[1:].sum())
            if clusters is videos:
                covered += number_covered
                false_positives += int((comparison["p"][1:] < 0.05).sum())
            else:
                covered_naively += number_covered
    assert 0.93 <= covered / (6 * sets) <= 0.97
    assert covered_naively / (6 * sets) < 0.85
    assert 0.035 <= false_positives / (6 * sets) <= 0.065


def test_smallest_difference_is_detected_in_80_percent() -> None:
    is_detected = []
    gains, videos = make_clustered_gains(np.random.default_rng(0), 150, 3, shared=0.7)
    smallest = paired.compare_errors(np.zeros_like(gains), gains, videos, Bootstrap(1000, 0))["smallest"][1:].mean()
    for number in range(60):
        gains, videos = make_clustered_gains(np.random.default_rng(1 + number), 150, 3, shared=0.7)
        is_detected += (
            paired.compare_errors(np.zeros_like(gains), gains + smallest, videos, Bootstrap(500, number))["p"][1:]
            < 0.05
        ).tolist()
    assert 0.73 <= np.mean(is_detected) <= 0.87


def test_compare_predictors_averages_seeds() -> None:
    rng = np.random.default_rng(0)
    actual, videos = rng.uniform(size=(60, 5)), np.repeat(np.arange(20), 3)
    near, far = actual + 0.1, [actual + 0.2, actual - 0.3]
    table = paired.compare_predictors(
        {"far": far, "near": [near]}, actual, videos, "far", make_group(1), Bootstrap(200, 0)
    )
    table = table.set_index(["predictor", "target"])
    assert table.loc[("far", "mean"), "accuracy"] == pytest.approx(0.75)
    assert table.loc[("far", "e"), "seed_std"] == pytest.approx(np.std([0.8, 0.7], ddof=1))
    assert np.isnan(table.loc[("far", "mean"), "difference"])
    assert np.isnan(table.loc[("near", "mean"), "seed_std"])
    assert table.loc[("near", "e"), "difference"] == pytest.approx(0.15)
    assert table.loc[("near", "e"), ["low", "high"]].tolist() == pytest.approx([0.15, 0.15])
    assert table.loc[("near", "e"), "p"] < 0.01


def test_p_values_are_corrected_over_all_predictors() -> None:
    rng = np.random.default_rng(0)
    actual, videos = rng.uniform(size=(100, 5)), np.arange(100) // 2
    predictions = {f"p{index}": [actual + rng.normal(0, 0.1 + 0.005 * index, (100, 5))] for index in range(6)}
    table = paired.compare_predictors(predictions, actual, videos, "p0", make_group(1), Bootstrap(500, 0))
    assert table.loc[table["predictor"] == "p0", ["p", "p_holm"]].isna().all(axis=None)
    for family in (table["target"] == "mean", table["target"] != "mean"):
        compared = table[family & (table["predictor"] != "p0")]
        assert compared["p_holm"].tolist() == pytest.approx(paired.adjust_p(compared["p"].to_numpy()))
    assert (table["p_holm"].dropna() > table["p"].dropna()).any()


def test_missing_label_changes_only_its_column_of_comparison() -> None:
    rng = np.random.default_rng(0)
    actual, videos = rng.uniform(1, 7, (60, 5)), np.repeat(np.arange(20), 3)
    predictions = {"near": [actual + rng.normal(0, 0.5, (60, 5))], "far": [actual + rng.normal(0, 1, (60, 5))]}
    one_missing, column_missing = actual.copy(), actual.copy()
    one_missing[7, 1], column_missing[:, 1] = np.nan, np.nan
    complete, incomplete, empty = (
        paired.compare_predictors(predictions, values, videos, "far", make_group(6), Bootstrap(200, 0)).set_index(
            ["predictor", "target"]
        )
        for values in (actual, one_missing, column_missing)
    )
    other_columns = ["a", "c", "d", "e"]
    measured = ["accuracy", "r2", "difference", "low", "high", "p", "smallest"]
    assert incomplete.loc[("near", other_columns), measured].equals(complete.loc[("near", other_columns), measured])
    errors = {name: np.delete(np.abs(predicted[0] - actual)[:, 1], 7) for name, predicted in predictions.items()}
    assert incomplete.loc[("near", "b"), "accuracy"] == pytest.approx(1 - errors["near"].mean() / 6)
    assert incomplete.loc[("near", "b"), "difference"] == pytest.approx((errors["far"] - errors["near"]).mean() / 6)
    assert incomplete.loc[("near", "mean"), "difference"] == pytest.approx(
        incomplete.loc[("near", FIVE), "difference"].mean()
    )
    assert empty.loc[("near", ["mean", "b"]), [*measured, "p_holm"]].isna().all(axis=None)
    four = paired.adjust_p(
        empty.loc[("near", other_columns), "p"].to_numpy()
    )  # columns without a test do not count in the correction
    assert empty.loc[("near", other_columns), "p_holm"].tolist() == pytest.approx(four)


def test_equal_predictors_are_tested_once() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=(60, 2))
    near, mean, other = actual + rng.normal(0, 0.9, (60, 2)), np.zeros((60, 2)), rng.normal(0, 0.5, (60, 2))
    predictions = {"near": [near], "mean": [mean], "other": [other]}
    videos = np.arange(60)
    group = TargetGroup(columns=["warm", "cold"], range=[0, 1], head="linear", loss="mse", weight=1)
    bootstrap = Bootstrap(500, 0)
    once = paired.compare_predictors(predictions, actual, videos, "near", group, bootstrap)
    twice = paired.compare_predictors(predictions | {"look": [mean.copy()]}, actual, videos, "near", group, bootstrap)
    assert paired.find_twins(predictions | {"look": [mean.copy()]}) == {"look": "mean"}
    pd.testing.assert_frame_equal(twice[twice["predictor"] != "look"], once)
    p = twice.set_index(["predictor", "target"])["p_holm"]
    assert p["look"].tolist() == p["mean"].tolist()
