"""The part of a web page that shows predictions, without a browser."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lib.core.targets import TargetGroup
from lib.serving.results import Estimate, Prediction, Window
from lib.serving.web import DisplayedClip, describe, render, spread

ESTIMATE = Estimate(0.489, 0.341, 0.639, 46.2)


def model(count: int = 2) -> Any:
    group = TargetGroup.model_construct(columns=[f"t{index}" for index in range(count)], range=(0.0, 1.0))
    return SimpleNamespace(targets={"own": group}, training=SimpleNamespace(references={}))


def predict(scores: list[float | None], count: int = 2, clip: str = "a.mp4") -> Prediction:
    """Return a prediction with a window of 2 s for each score, None where it can't be used."""
    windows = []
    for index, score in enumerate(scores):
        targets = (
            {}
            if score is None
            else {"own": {f"t{number}": Estimate(score, None, None, None) for number in range(count)}}
        )
        windows.append(Window(index, index + 2.0, targets, 1.0, "" if targets else "no face"))
    targets = {"own": {f"t{number}": ESTIMATE for number in range(count)}}
    return Prediction(Path("/tmp", clip), targets, "", (), tuple(windows), 1.0)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (ESTIMATE, "0.49 (0.34 to 0.64), higher than 46 % of training clips"),
        (Estimate(0.489, None, None, 100.0), "0.49, higher than all training clips"),
        (Estimate(0.489, None, None, None), "0.49"),
    ],
)
def test_estimate_is_described_in_one_line(estimate: Estimate, text: str) -> None:
    assert describe(estimate) == text


def test_curve_of_one_window_has_a_dot() -> None:
    html = render([DisplayedClip(predict([0.4, None, None]), ())], model())
    assert len(re.findall(r'<line class="dot" x1="25.0"', html)) == 2


def test_curve_is_interrupted_where_a_window_is_missing() -> None:
    html = render([DisplayedClip(predict([0.4, 0.5, None, 0.3, 0.4]), ())], model(1))
    lines = [points.split() for points in re.findall(r'<polyline points="([^"]*)"', html)]
    assert [len(points) for points in lines] == [2, 2]
    heights = [float(point.split(",")[1]) for points in lines for point in points]
    assert np.argsort(heights, stable=True).tolist() == [1, 0, 3, 2]


def test_curve_shows_ten_targets_and_the_table_all() -> None:
    html = render([DisplayedClip(predict([0.4, 0.5], 12), ()), DisplayedClip(predict([], 12), ())], model(12))
    assert html.count("<polyline") == 10
    assert "The first 10 targets are shown; windows.csv has all." in html
    assert html.count('<th scope="col">') == 13


def test_rejected_clip_has_the_reason_and_no_folder() -> None:
    rejected = Prediction(Path("/tmp/up/b<i>.mp4"), {}, "/tmp/up/b<i>.mp4 is not a file", ())
    html = render([DisplayedClip(rejected, ()), DisplayedClip(predict([], clip="c.mp4"), ["it is dark"])], model())
    assert "No score: b&lt;i&gt;.mp4 is not a file" in html
    assert "no score: see below" in html
    assert "/tmp" not in html
    assert "⚠ It is dark" in html


@pytest.mark.parametrize("places", [[50.0, 50.0, 50.0], [0.0, 1.0, 2.0], [100.0, 99.0, 98.0], [10.0, 90.0, 50.0]])
def test_labels_do_not_overlap(places: list[float]) -> None:
    moved = spread(places, 8.0)
    assert min(np.diff(sorted(moved))) >= 7.99
    assert max(moved) <= 100
    assert [moved[index] for index in np.argsort(places, stable=True)] == sorted(moved)
