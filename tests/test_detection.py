"""Scores of present and absent targets compared with scikit-learn; weights of columns; figures of fractions."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.report import figures
from lib.scoring import detection, tables
from lib.scoring.scores import Bootstrap
from lib.training import losses

COLUMNS = ["neutral", "anger", "joy"]


def group(**changes: object) -> TargetGroup:
    given = {"columns": COLUMNS, "range": [0, 1], "head": "softmax", "loss": "kl", "weight": 1}
    return TargetGroup(**(given | {"detect": ["anger", "joy"], "detect_from": 0.25} | changes))  # type: ignore[arg-type]


def shares(rng: np.random.Generator, clips: int) -> np.ndarray:
    raw = rng.uniform(size=(clips, 3)) * (rng.uniform(size=(clips, 3)) < 0.6)
    raw[:, 0] += raw.sum(1) == 0
    return raw / raw.sum(1, keepdims=True)


def test_the_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    actual, predicted = shares(rng, 60), shares(rng, 60).round(1)
    actual[:5, 1] = np.nan
    videos = np.repeat([f"v{at}" for at in range(20)], 3)
    table = detection.score_detection(actual, predicted, videos, group(), Bootstrap(200, 0)).set_index(
        ["score", "target"]
    )
    for column in ("anger", "joy"):
        at = COLUMNS.index(column)
        known = ~np.isnan(actual[:, at])
        present, values = actual[known, at] > 0, predicted[known, at]
        expected = {
            "f1": f1_score(present, values >= 0.25),
            "macro_f1": f1_score(present, values >= 0.25, average="macro"),
            "uar": recall_score(present, values >= 0.25, average="macro"),
            "auc": roc_auc_score(present, values),
        }
        for score, value in expected.items():
            row = table.loc[(score, column)]
            assert row["value"] == pytest.approx(value), (score, column)
            assert row["low"] < value < row["high"]
    of_uar = table.loc["uar", "value"]
    assert of_uar["mean"] == pytest.approx(of_uar[["anger", "joy"]].mean())


def test_what_is_nowhere_present_has_no_auc_and_no_f1() -> None:
    actual = np.tile([1.0, 0, 0], (12, 1))
    found = detection.detection_scores(actual, np.tile([0.2, 0.0, 0.8], (12, 1)), group())
    assert np.isnan(found["auc"]).all()
    assert found["f1"].tolist() == [0, 0, 0]
    assert found["macro_f1"].tolist() == [0.25, 0.5, 0]  # anger is rightly absent, joy wrongly there


def test_detections_are_scored_only_for_the_columns_of_detect() -> None:
    rng = np.random.default_rng(1)
    actual = shares(rng, 40)
    test = pd.DataFrame({"video": np.repeat([f"v{at}" for at in range(20)], 2)})
    given = {"model": actual, "mean_predictor": np.tile(actual.mean(0), (40, 1))}

    def scored(group: TargetGroup) -> tables.ScoredClips:
        return tables.ScoredClips(actual, given, test["video"].to_numpy(), np.ones(40, bool), group, Bootstrap(100, 0))

    table = tables.score_table(scored(group()))
    assert set(table.loc[table["score"] == "uar", "target"]) == {"mean", "anger", "joy"}
    rows = table[table["predictor"] == "model"].set_index(["subset", "score", "target"])["value"]
    assert rows["all", "macro_f1", "mean"] == pytest.approx(
        np.mean([f1_score(actual[:, at] > 0, actual[:, at] >= 0.25, average="macro") for at in (1, 2)]), abs=1e-4
    )
    assert "uar" not in set(tables.score_table(scored(group(detect=[])))["score"])


def test_columns_weigh_as_given_or_by_how_rare_they_are() -> None:
    labels = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [1, 0, np.nan]])
    assert losses.weigh_columns(group(), labels).tolist() == [1, 1, 1]
    assert losses.weigh_columns(group(column_weights=[3, 10, 2.5]), labels).tolist() == [3, 10, 2.5]
    balanced = losses.weigh_columns(group(column_weights="balanced"), labels)
    means = np.array([2 / 3, 1 / 6, 1 / 4])
    assert balanced == pytest.approx(1 / means / (1 / means).mean())
    with pytest.raises(InputError, match="no training clip has joy; give numbers, or null"):
        losses.weigh_columns(group(column_weights="balanced"), np.array([[0.5, 0.5, 0.0]]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"detect": ["fear"]}, "detect has 'fear'; allowed: neutral, anger, joy"),
        ({"column_weights": [1, 2]}, "allowed: a number for each of the columns"),
        ({"detect_from": 0}, "greater than 0"),
    ],
)
def test_a_contradiction_is_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        group(**changes)


def test_the_figures_of_shares_count_the_clips() -> None:
    rows = pd.DataFrame(
        {
            "clip": np.repeat(["a", "b", "c"], 3),
            "video": np.repeat(["v", "v", "w"], 3),
            "target": COLUMNS * 3,
            "actual": [0.6, 0.4, 0, 0, 1, 0, 0, np.nan, 1],
            "predicted": [0.2, 0.5, 0.3, 0.1, 0.8, 0.1, 0.3, 0.3, 0.4],
        }
    )
    figure = figures.confusion.draw(figures.Results(predictions=rows), group())
    counts = [text.get_text() for text in figure.axes[0].texts]
    assert counts == ["0%\n0", "100%\n1", "0%\n0", "0%\n0", "100%\n1", "0%\n0", "0%\n0", "0%\n0", "0%\n0"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["neutral (1)", "anger (1)", "joy (0)"]
    line = figures.reliability.draw(figures.Results(predictions=rows), group()).axes[0].lines[0]
    assert line.get_xydata().tolist() == [[0.1, 0], [0.2, 0.6], [0.3, 0]]
    assert not figures.confusion.applies_to(group(head="linear", loss="mse"))
