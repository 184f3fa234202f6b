"""Detection scores compared with scikit-learn, column weights, and figures of emotion fractions."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.report import figures
from lib.scoring import detection, tables
from lib.scoring.bootstrap import Bootstrap
from lib.training import losses

COLUMNS = ["neutral", "anger", "joy"]


def make_group(**changes: object) -> TargetGroup:
    values = {"columns": COLUMNS, "range": [0, 1], "head": "softmax", "loss": "kl", "weight": 1}
    return TargetGroup(**(values | {"detect": ["anger", "joy"], "detect_from": 0.25} | changes))  # type: ignore[arg-type]


def random_fractions(rng: np.random.Generator, clips: int) -> np.ndarray:
    raw = rng.uniform(size=(clips, 3)) * (rng.uniform(size=(clips, 3)) < 0.6)
    raw[:, 0] += raw.sum(1) == 0
    return raw / raw.sum(1, keepdims=True)


def test_detection_scores_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    actual, predicted = random_fractions(rng, 60), random_fractions(rng, 60).round(1)
    actual[:5, 1] = np.nan
    videos = np.repeat([f"v{number}" for number in range(20)], 3)
    table = detection.score_detection(actual, predicted, videos, make_group(), Bootstrap(200, 0)).set_index(
        ["score", "target"]
    )
    for column in ("anger", "joy"):
        number = COLUMNS.index(column)
        is_known = ~np.isnan(actual[:, number])
        present, values = actual[is_known, number] > 0, predicted[is_known, number]
        expected = {
            "f1": f1_score(present, values >= 0.25),
            "macro_f1": f1_score(present, values >= 0.25, average="macro"),
            "weighted_f1": f1_score(present, values >= 0.25, average="weighted"),
            "uar": recall_score(present, values >= 0.25, average="macro"),
            "auc": roc_auc_score(present, values),
        }
        for score, value in expected.items():
            row = table.loc[(score, column)]
            assert row["value"] == pytest.approx(value), (score, column)
            assert row["low"] < value < row["high"]
    uar = table.loc["uar", "value"]
    assert uar["mean"] == pytest.approx(uar[["anger", "joy"]].mean())


def test_absent_column_has_no_auc_and_zero_f1() -> None:
    actual = np.tile([1.0, 0, 0], (12, 1))
    scores = detection.detection_scores(actual, np.tile([0.2, 0.0, 0.8], (12, 1)), make_group())
    assert np.isnan(scores["auc"]).all()
    assert scores["f1"].tolist() == [0, 0, 0]
    assert scores["macro_f1"].tolist() == [0.25, 0.5, 0]  # anger is correctly absent, joy is wrongly predicted


def test_score_table_scores_detection_of_detect_columns() -> None:
    rng = np.random.default_rng(1)
    actual = random_fractions(rng, 40)
    test = pd.DataFrame({"video": np.repeat([f"v{number}" for number in range(20)], 2)})
    predictions = {"model": actual, "mean_predictor": np.tile(actual.mean(0), (40, 1))}

    def score_clips(group: TargetGroup) -> tables.ScoredClips:
        return tables.ScoredClips(
            actual, predictions, test["video"].to_numpy(), np.ones(40, bool), group, Bootstrap(100, 0)
        )

    table = tables.score_table(score_clips(make_group()))
    assert set(table.loc[table["score"] == "uar", "target"]) == {"mean", "anger", "joy"}
    rows = table[table["predictor"] == "model"].set_index(["subset", "score", "target"])["value"]
    assert rows["all", "macro_f1", "mean"] == pytest.approx(
        np.mean([f1_score(actual[:, number] > 0, actual[:, number] >= 0.25, average="macro") for number in (1, 2)]),
        abs=1e-4,
    )
    assert "uar" not in set(tables.score_table(score_clips(make_group(detect=[])))["score"])


def test_weigh_columns_by_numbers_or_balanced() -> None:
    labels = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [1, 0, np.nan]])
    assert losses.weigh_columns(make_group(), labels).tolist() == [1, 1, 1]
    assert losses.weigh_columns(make_group(column_weights=[3, 10, 2.5]), labels).tolist() == [3, 10, 2.5]
    balanced = losses.weigh_columns(make_group(column_weights="balanced"), labels)
    means = np.array([2 / 3, 1 / 6, 1 / 4])
    assert balanced == pytest.approx(1 / means / (1 / means).mean())
    with pytest.raises(InputError, match="no training clip has joy; give numbers, or null"):
        losses.weigh_columns(make_group(column_weights="balanced"), np.array([[0.5, 0.5, 0.0]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detect": ["fear"]}, "detect has 'fear'; allowed: neutral, anger, joy"),
        ({"column_weights": [1, 2]}, "allowed: a number for each of the columns"),
        ({"detect_from": 0}, "greater than 0"),
    ],
)
def test_detect_settings_are_validated(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_group(**changes)


def test_confusion_and_reliability_count_clips() -> None:
    rows = pd.DataFrame(
        {
            "clip": np.repeat(["a", "b", "c"], 3),
            "video": np.repeat(["v", "v", "w"], 3),
            "target": COLUMNS * 3,
            "actual": [0.6, 0.4, 0, 0, 1, 0, 0, np.nan, 1],
            "predicted": [0.2, 0.5, 0.3, 0.1, 0.8, 0.1, 0.3, 0.3, 0.4],
        }
    )
    figure = figures.confusion.draw(figures.FigureInputs(predictions=rows), make_group())
    counts = [text.get_text() for text in figure.axes[0].texts]
    assert counts == ["0%\n0", "100%\n1", "0%\n0", "0%\n0", "100%\n1", "0%\n0", "0%\n0", "0%\n0", "0%\n0"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["neutral (1)", "anger (1)", "joy (0)"]
    line = figures.reliability.draw(figures.FigureInputs(predictions=rows), make_group()).axes[0].lines[0]
    assert line.get_xydata().tolist() == [[0.1, 0], [0.2, 0.6], [0.3, 0]]
    assert not figures.confusion.applies_to(make_group(head="linear", loss="mse"))
