"""Outliers: far labels and features are found, once for each clip, and documents list them."""

from dataclasses import replace

import numpy as np
import pandas as pd

from lib.report import datasheet, words
from lib.scoring.outliers import WIDEST, find_outliers
from lib.scoring.tables import score_table
from tests.report_data import WARMTH, make_scored
from tests.test_report import make_data, make_results, make_run

TARGETS = {"warmth": WARMTH}


def make_clips() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    rng = np.random.default_rng(0)
    clips = pd.DataFrame(
        {"clip": [f"c{number}" for number in range(300)], "split": ["training"] * 200 + ["test"] * 100}
    )
    clips["cold"], clips["warm"] = 1.0, rng.normal(4, 0.1, 300)
    vectors = pd.DataFrame(rng.normal(size=(300, 7)), clips["clip"])
    return clips, {
        "text": vectors,
        "text.counts": vectors.loc[:, 2:].copy(),
        "wide": pd.DataFrame(np.eye(300, WIDEST + 1), clips["clip"]),
    }


def test_outliers_are_far_labels_and_features() -> None:
    clips, vectors = make_clips()
    training = clips[:200]
    assert find_outliers(training, clips, TARGETS, vectors).empty
    vectors["text.counts"].loc["c250", [3, 5]] = [20.0, -45.0]
    vectors["text.counts"].loc["c7", 4] = 1000.0
    clips.loc[299, "warm"] = 7.0
    clips.loc[298, "warm"] = np.nan
    found = find_outliers(training, clips, TARGETS, vectors)
    assert found[["kind", "name", "column", "clip", "split"]].to_numpy().tolist() == [
        ["label", "labels", "warm", "c299", "test"],
        ["feature", "text.counts", "3", "c250", "test"],
        ["feature", "text.counts", "2", "c7", "training"],
    ]
    assert found["value"].tolist() == [7.0, -45.0, 1000.0]
    assert found["deviations"].iloc[1] > 40


def test_datasheet_lists_outliers() -> None:
    clips, vectors = make_clips()
    vectors["text.counts"].loc["c250", 5] = -45.0
    found = find_outliers(clips[:200], clips, TARGETS, vectors)
    data = make_data("table") | {"corpora": {"table": {"annotated": 5, "files": 4, "usable": 0, "rejected": {}}}}
    run = make_run("table")._replace(data=data)
    clips = clips.assign(corpus="other", reason="")
    _, _, persons = make_results("warmth", WARMTH)
    text = datasheet.make_datasheet(clips, persons, found, {"warmth": WARMTH}, run, [])
    assert "| c250 | test | text.counts, feature 3 | -45 | " in text
    text = datasheet.make_datasheet(clips, persons, found[:0], {"warmth": WARMTH}, run, [])
    assert "No label and no feature lies 10 or more standard deviations" in text


def test_scores_and_report_count_clipped_predictions() -> None:
    scored = make_scored(WARMTH, 0.1)
    table = score_table(scored)
    assert "clipped" not in set(table["score"])
    assert words.describe_clipped(table, WARMTH) == ""
    clipped = np.zeros_like(scored.actual, bool)
    clipped[3:6, 0] = clipped[40, 1] = True
    table = score_table(replace(scored, clipped={"mean_predictor": clipped, "video_lookup": clipped & False}))
    rows = table[table["score"] == "clipped"].set_index(["subset", "predictor", "target"])["value"]
    assert set(rows.index.get_level_values("predictor")) == {"mean_predictor"}
    assert rows["all", "mean_predictor"].to_dict() == {"mean": 2.0, "warm": 3.0, "cold": 1.0}
    assert rows["unseen_videos", "mean_predictor", "cold"] == 0
    assert words.describe_clipped(table, WARMTH) == (
        "Predictions of baselines outside 1 to 7 were clipped: 4 of training mean."
    )
