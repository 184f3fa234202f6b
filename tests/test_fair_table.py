"""Accuracy against gaps between groups: the measures by hand, their table, caption and figure; intersections of groups."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.report import fairness
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.fairness import ComparedClips, ModelPredictions, choose_pair, compare_settings
from lib.scoring.person_groups import MIN_CLIPS, average_groups, cross_groups
from lib.scoring.tables import LABELS, ScoredClips, group_table

GROUP = TargetGroup(columns=["warm", "calm"], range=[0, 2], head="linear", loss="mse", weight=1)
PAIR = "f", "m"


@pytest.fixture(scope="module")
def compared() -> pd.DataFrame:
    """Two settings, with two seeds each: the labels of f are 0.2 higher; the second setting predicts f 0.1 lower."""
    rng = np.random.default_rng(0)
    groups = np.array(["f", "m", ""] * 20)
    actual = np.where(groups[:, None] == "f", 1.2, 1.0) + rng.normal(0, 0.01, (60, 2))
    first = actual + np.where(groups[:, None] == "m", 0.4, 0.1)
    second = first - np.where(groups[:, None] == "f", 0.1, 0.0)
    clips = ComparedClips(actual, np.repeat(np.arange(30), 2), groups, PAIR, GROUP)
    widths = np.full((60, 2), 0.2)
    runs = {
        "none": [ModelPredictions(first, widths)] * 2,
        "balanced": [ModelPredictions(second, widths), ModelPredictions(second - 0.02, widths)],
    }
    return compare_settings(runs, clips, Bootstrap(300, 0))


def test_compare_settings_equals_values_by_hand(compared: pd.DataFrame) -> None:
    rows = compared[compared["target"] == "warm"].set_index(["setting", "measure"])
    values = rows["value"]
    assert values["none", "label_difference"] == pytest.approx(0.2, abs=0.01)  # f minus m
    assert values["none", "error_difference"] == pytest.approx(0.1 - 0.4)
    assert values["none", "prediction_difference"] == pytest.approx(values["none", "label_difference"] - 0.3)
    assert values["none", "accuracy_difference"] == pytest.approx((0.4 - 0.1) / 2)
    assert values["none", "accuracy"] == pytest.approx(1 - (0.4 + 0.1 + 0.1) / 3 / 2)  # unknown groups count here
    assert values["none", "coverage"] == pytest.approx(2 / 3)
    assert values["none", "coverage_difference"] == 1
    assert values["balanced", "error_difference"] == pytest.approx(-0.4)
    assert rows.loc[("balanced", "error_difference"), "change"] == pytest.approx(-0.1)
    assert rows.loc[("balanced", "error_difference"), ["change_low", "change_high"]].tolist() == pytest.approx(
        [-0.1, -0.1]
    )
    assert rows.loc[("balanced", "error_difference"), "seed_std"] == pytest.approx(0)
    assert rows.loc[("balanced", "label_difference"), "change"] == 0
    interval = rows.loc[("none", "label_difference"), ["low", "value", "high"]].tolist()
    assert interval == sorted(interval)
    assert interval[0] < interval[2]


def test_choose_pair_needs_two_groups_with_ten_videos() -> None:
    labels = np.repeat([0.1, 0.9, 0.5, 0.99], 12)[:, None]
    videos, groups = np.arange(48), np.repeat(["low", "high", "", "few"], 12)
    videos[36:] = 36
    assert choose_pair(labels, videos, groups) == ("high", "low")
    with pytest.raises(InputError, match="have 1 groups with 10 videos or more; allowed: two or more"):
        choose_pair(labels[:12], videos[:12], groups[:12])


@pytest.mark.slow
def test_fairness_table_and_caption_name_the_sign_of_labels(compared: pd.DataFrame, tmp_path: Path) -> None:
    text = fairness.format_markdown(compared, "60 clips of 30 videos", PAIR, GROUP, 0.9)
    assert "Mean of warm, calm on 60 clips of 30 videos; labels, f minus m: +0.20" in text
    assert "Every gap is f minus m, the groups with the highest and the lowest mean label in training" in text
    assert "difference between raters' impressions of the two groups, not an error of a model" in text
    assert "should be 90% in both groups. 95 % intervals over videos." in text
    assert "\n| balanced | " in text
    assert "−0.4000" in text
    fairness.write(compared, "60 clips", PAIR, GROUP, level=0.9, out=tmp_path / "fair")
    caption = (tmp_path / "fair.tex").read_text()
    assert "labels, f minus m: +0.20" in caption
    assert "prediction − label" in caption or "prediction $-$ label" in caption
    assert (tmp_path / "fair.png").stat().st_size > 5000


def test_fairness_figure_has_accuracy_against_each_gap(compared: pd.DataFrame) -> None:
    figure = fairness.draw_panels(compared, "60 clips", PAIR, GROUP)
    panels = [axes for axes in figure.axes if axes.axison]
    assert [(axes.get_title(), axes.get_xlabel()) for axes in panels] == [
        ("mean", "gap of the signed error"),
        ("mean", "gap of the accuracy"),
        ("mean", "gap of the coverage"),
        ("warm", "gap of the signed error"),
        ("calm", "gap of the signed error"),
    ]
    assert {axes.get_ylabel() for axes in panels} == {"1 − MAE / 2"}
    positions = [bars.lines[0].get_xdata()[0] for bars in panels[0].containers]
    assert positions == pytest.approx([-0.3, -0.4])
    assert "labels, f minus m: +0.20" in figure.get_suptitle()
    dotted = [line.get_xdata()[0] for line in panels[0].lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([-0.2], abs=0.01)


def test_cross_groups_leaves_out_small_intersections() -> None:
    gender = ["f"] * 70 + ["m"] * 70 + [""]
    age = ["old"] * MIN_CLIPS + ["young"] * (140 - 2 * MIN_CLIPS - 1) + ["old"] * (MIN_CLIPS + 1) + ["old"]
    persons = pd.DataFrame({"gender": gender, "age": age, "side": ["left"] * 141})
    crossed = cross_groups(persons)
    assert list(crossed) == ["gender × age"]  # side has one group
    counts = crossed["gender × age"].value_counts()
    assert counts["f, old"] == MIN_CLIPS
    assert counts["m, old"] == MIN_CLIPS + 1
    assert crossed["gender × age"].iloc[-1] == ""
    assert not list(cross_groups(persons.iloc[: 2 * MIN_CLIPS - 1]))


def test_average_groups_equals_values_by_hand() -> None:
    values = np.array([[1.0], [0.0], [np.nan], [1.0]] * 10)
    labels, videos = np.array(["a", "a", "b", "b"] * 10), np.arange(40)
    table = average_groups("coverage", values, videos, labels, ["x"], Bootstrap(200, 0))
    means = table[table["target"] == "x"].set_index(["what", "group"])["value"]
    assert means["value", "a"] == 0.5
    assert means["value", "b"] == 1
    assert means["difference", "a"] == -0.5
    assert means["gap", "b minus a"] == 0.5


def test_group_table_has_labels_coverage_and_intersections() -> None:
    rng = np.random.default_rng(0)
    gender, age = np.repeat(["f", "m"], 80), np.array(["old", "young"] * 80)
    actual = rng.normal(0, 0.1, (160, 2)) + np.where(gender == "f", 1.2, 1.0)[:, None]
    predictions = {"model": actual + 0.1, "mean_predictor": np.full((160, 2), 1.1)}
    widths = np.where(age == "old", 0.2, 0.05)[:, None] * np.ones(2)
    scored = ScoredClips(actual, predictions, np.arange(160), np.zeros(160, bool), GROUP, Bootstrap(200, 0), widths)
    table = group_table(scored, pd.DataFrame({"gender": gender, "age": age}))
    assert list(dict.fromkeys(table["kind"])) == ["gender", "age", "gender × age"]
    rows = table[table["target"] == "mean"].set_index(["kind", "predictor", "what", "group", "score"])["value"]
    assert rows["age", "model", "value", "old", "coverage"] == 1
    assert rows["age", "model", "difference", "young", "coverage"] == -1
    assert rows["gender × age", "model", "value", "f, young", "coverage"] == 0
    difference = rows["gender", LABELS, "difference", "f", "label"]
    assert difference == pytest.approx(actual[:80].mean() - actual[80:].mean())  # positive: the labels of f are higher
    assert rows["gender", "mean_predictor", "difference", "f", "bias"] == pytest.approx(-difference)
