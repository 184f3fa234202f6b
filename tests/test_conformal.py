"""Intervals of single predictions: half widths by hand, and their coverage in simulations."""

import numpy as np
import pytest

from lib.scoring import conformal
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.coverage import score_coverage


def test_half_width_is_the_right_order_statistic() -> None:
    actual = np.zeros((19, 2))
    predicted = np.column_stack([np.arange(19) * (-1) ** np.arange(19), np.full(19, np.nan)])
    predicted[10:, 1] = 1
    widths = conformal.compute_half_widths(actual, predicted, np.arange(19))
    assert widths[0] == 17  # the 18th smallest: ceil(20 x 0.9)
    assert widths[1] == 1  # nine clips: ceil(10 x 0.9) = 9
    assert conformal.compute_half_widths(actual[:8], predicted[:8], np.arange(8))[0] == np.inf


def test_half_width_follows_the_level() -> None:
    actual, predicted = np.zeros((19, 1)), np.arange(19.0)[:, None]
    assert conformal.compute_half_widths(actual, predicted, np.arange(19), level=0.5).tolist() == [
        9
    ]  # the 10th smallest: ceil(20 x 0.5)
    assert conformal.compute_half_widths(actual, predicted, np.arange(19), level=0.96).tolist() == [np.inf]


def test_half_widths_with_a_scale_are_its_multiples() -> None:
    actual, scale = np.zeros((19, 1)), np.where(np.arange(19) % 2, 10.0, 0.1)[:, None]
    predicted = np.arange(1, 20)[:, None] * scale  # errors of 1 to 19 scales
    assert conformal.compute_half_widths(actual, predicted, np.arange(19), scale).tolist() == [18]  # ceil(20 x 0.9)
    partly_labelled = np.where(np.arange(19) < 9, 0, np.nan)[:, None]
    assert conformal.compute_half_widths(partly_labelled, predicted, np.arange(19), scale).tolist() == [
        9
    ]  # ceil(10 x 0.9)


def test_intervals_cover_90_percent_of_new_clips() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        errors = rng.standard_t(2, size=(60, 1))
        width = conformal.compute_half_widths(np.zeros((50, 1)), errors[:50], np.arange(50))
        covered.append((np.abs(errors[50:]) <= width).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)


def test_half_width_counts_each_video_equally() -> None:
    # nine videos with one clip and errors 1 to 9; a tenth video has 30 clips without error
    errors, videos = np.concatenate([np.arange(1, 10), np.zeros(30)])[:, None], np.array([*range(9), *[9] * 30])
    actual = np.zeros_like(errors)
    assert conformal.compute_half_widths(actual, errors, videos).tolist() == [9]  # 0.9 x 11 = 9.9 of 10 videos
    assert conformal.compute_half_widths(actual, errors, videos, level=0.5).tolist() == [5]  # 5.5: the tenth and five
    assert conformal.compute_half_widths(actual, errors, np.arange(39)).tolist() == [6]  # as if clips were exchangeable


def test_intervals_cover_clips_of_new_videos() -> None:
    rng = np.random.default_rng(0)
    by_video, by_clip = [], []
    for _ in range(600):
        clips = rng.choice([1, 12], 31, p=[0.7, 0.3])  # the errors of a long video are similar, and small
        videos = np.repeat(np.arange(31), clips)
        errors = (rng.normal(0, np.where(clips == 1, 1.0, 0.2))[videos] + rng.normal(0, 0.05, len(videos)))[:, None]
        known, new = videos < 30, np.flatnonzero(videos == 30)[:1]
        for covered, groups in ((by_video, videos[known]), (by_clip, np.arange(known.sum()))):
            width = conformal.compute_half_widths(np.zeros((known.sum(), 1)), errors[known], groups)
            covered.append(bool(np.abs(errors[new]) <= width))
    assert np.mean(by_video) == pytest.approx(0.91, abs=0.03)
    assert np.mean(by_clip) < 0.85


def test_coverage_counts_labelled_clips_with_an_interval() -> None:
    rng = np.random.default_rng(0)
    actual, predicted = rng.uniform(size=(60, 2)), rng.uniform(size=(60, 2))
    actual[:10, 0] = np.nan
    videos = np.repeat([f"v{number}" for number in range(20)], 3)
    table = score_coverage(actual, predicted, np.array([0.3, np.inf]), videos, ["a", "b"], Bootstrap(200, 0))
    rows = table.set_index("target")
    assert rows.loc["a", "value"] == pytest.approx((np.abs(predicted - actual)[10:, 0] <= 0.3).mean())
    assert rows.loc["a", "low"] < rows.loc["a", "value"] < rows.loc["a", "high"]
    assert np.isnan(rows.loc["b", "value"])
    assert np.isnan(rows.loc["mean", "value"])
