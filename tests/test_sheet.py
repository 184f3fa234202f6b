"""The sheet and the video of a clip for models with many targets or long names of targets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lib.serving import overlay
from lib.serving.moments import Moment
from lib.serving.results import Estimate, Prediction, Window
from lib.serving.sheet import draw_sheet


def predict(count: int) -> Prediction:
    """Return a prediction of `count` targets with three windows."""
    names = [f"target {index} {'x' * 80}" for index in range(count)]
    targets = {"own": {name: Estimate(0.5, 0.4, 0.6, 46.0) for name in names}}
    windows = tuple(Window(start, start + 2.0, targets, 1.0, "") for start in (0.0, 1.0, 2.0))
    return Prediction(Path("a.mp4"), targets, "", (), windows, 1.0)


def test_sheet_shows_ten_targets_with_short_names() -> None:
    figure = draw_sheet(predict(60), [])
    scores, over_time = (axes for part in figure.subfigs for axes in part.axes)
    assert len(scores.get_yticks()) == 10
    assert max(len(label.get_text()) for label in scores.get_yticklabels()) == 30
    assert scores.get_xlabel() == "own: score (the first 10 of 60 targets)"
    assert len(over_time.lines) == 10
    assert figure.get_figheight() < 10
    assert draw_sheet(predict(2), []).axes[0].get_xlabel() == "own: score"


@pytest.mark.parametrize("count", [2, 60])
def test_video_shows_ten_targets(count: int) -> None:
    prediction = predict(count)
    moment = Moment(0.2, np.zeros((120, 160, 3), np.uint8), {})
    evidence: Any = SimpleNamespace(targets=prediction.targets, span=None)
    assert overlay._score_lines(moment, evidence, 640).shape == (22 * (1 + min(count, 10) // 2), 640, 3)
