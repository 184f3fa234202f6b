"""The attribute baseline: labels that depend on attributes alone, and the numbers that streams store."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import tools.baselines
from lib.core.shards import Record, write_record
from lib.report import verdict, words
from lib.scoring import baselines
from lib.scoring.attributes import encode_groups, measure_recording, tabulate_attributes
from lib.scoring.scores import score_columns
from tests.conftest import ROOT
from tests.report_data import WARMTH, score_model
from tests.run_tool import run_tool
from tests.test_compare import labels

__all__ = ["labels"]

COLUMNS = ["filmed", "person", "neither"]


@pytest.fixture(scope="module")
def corpus() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """900 clips with three labels, and the attributes: half of the variance of the first comes from brightness, that of the
    second from gender, and the third is independent of both."""
    rng = np.random.default_rng(0)
    names = [f"c{index:03d}" for index in range(900)]
    clips = pd.DataFrame({"clip": names, "video": names, "duration": rng.uniform(10, 20, 900)})
    light, gender = rng.normal(size=900), rng.choice(["female", "male"], 900)
    clips["filmed"] = 0.5 + 0.1 * (light + rng.normal(size=900))
    clips["person"] = 0.5 + 0.1 * (np.where(gender == "male", 1, -1) + rng.normal(size=900))
    clips["neither"] = rng.normal(0.5, 0.1, 900)
    persons = pd.DataFrame({"gender": gender, "age": rng.choice(["", "young", "old"], 900)}, index=names)
    measured = {"voice": pd.DataFrame({"level.mean": light, "speech.fraction": rng.uniform(size=900)}, names)}
    return clips, tabulate_attributes(clips, persons, measured, Path("none"))


def score(clips: pd.DataFrame, predictions: dict[str, np.ndarray], name: str) -> dict[str, float]:
    values = score_columns(clips[COLUMNS].to_numpy(), predictions[name], COLUMNS, 1)["r2"]
    return {column: float(values[column] or 0) for column in COLUMNS}


def test_planted_attributes_are_found_and_noise_is_not(corpus: tuple[pd.DataFrame, dict[str, pd.DataFrame]]) -> None:
    clips, attributes = corpus
    parts = clips[:450], clips[450:], clips[350:450]
    predictions = baselines.predict(parts[0], parts[1], parts[2], COLUMNS, {}, attributes=attributes)
    both, groups, recording = (
        score(parts[1], predictions, f"ridge_{name}") for name in ("attributes", "groups", "recording")
    )
    assert both["filmed"] == pytest.approx(0.5, abs=0.08)
    assert both["person"] == pytest.approx(0.5, abs=0.08)
    assert recording["filmed"] == pytest.approx(0.5, abs=0.08)
    assert groups["person"] == pytest.approx(0.5, abs=0.08)
    assert abs(both["neither"]) < 0.04
    assert abs(groups["filmed"]) < 0.04
    assert abs(recording["person"]) < 0.04


def test_stacking_does_not_read_attributes(corpus: tuple[pd.DataFrame, dict[str, pd.DataFrame]]) -> None:
    clips, attributes = corpus
    rng = np.random.default_rng(1)
    vectors = {name: pd.DataFrame(rng.normal(size=(900, 3)), clips["clip"]) for name in ("one", "two")}
    parts = clips[:300], clips[400:500], clips[300:400]
    without = baselines.predict(*parts, COLUMNS, vectors)
    predictions = baselines.predict(*parts, COLUMNS, vectors, attributes=attributes)
    assert predictions.keys() - without.keys() == {"ridge_attributes", "ridge_groups", "ridge_recording"}
    assert "stacked_ridge" in without
    for name, values in without.items():
        np.testing.assert_array_equal(predictions[name], values)


def test_unknown_groups_have_no_column() -> None:
    clips = pd.DataFrame({"clip": ["a", "b", "c"]})
    persons = pd.DataFrame({"gender": ["male", "", "female"], "age": ["", "", ""]}, index=["a", "b", "x"])
    table = encode_groups(clips, persons)
    assert table.to_dict("list") == {"gender: male": [1, 0, 0]}
    assert tabulate_attributes(clips, persons[:0], {}, Path("none")) == {}
    assert list(tabulate_attributes(clips, persons, {}, Path("none"))) == ["attributes"]


def write_stream(data: Path, name: str, records: list[Record], info: dict[str, object]) -> None:
    (data / name).mkdir(parents=True)
    (data / name / "stream.json").write_text(json.dumps({"settings": {}, "shapes": {}} | info))
    with h5py.File(data / name / "x.h5", "w") as file:
        for record in records:
            write_record(file, record)


def make_face(clip: str, grey: int, distance: float) -> Record:
    points = np.zeros((4, 5, 2), np.float32)
    points[:, 1, 0] = distance
    points[0] = 1000  # absent
    images = np.full((4, 8, 8, 3), grey, np.uint8)
    return Record(clip, {"faces": images, "landmarks": points, "found": np.array([0, 1, 1, 1])})


def test_recording_is_measured_from_stored_streams(tmp_path: Path) -> None:
    clips = pd.DataFrame({"clip": ["a", "b", "c"], "duration": [3.0, 4.0, 5.0]})
    faces = [make_face("a", 51, 20), make_face("b", 204, 30), Record("c", rejected="faces: none")]
    write_stream(tmp_path, "faces", faces, {})
    write_stream(tmp_path, "audio", [], {"shapes": {"log_mel": [2], "mfcc": [3]}})
    audio = pd.DataFrame([[-20.0, -30, 1, 2, 3, 9, 9, 9, 9, 9], [-40, -50, 1, 2, 3, 9, 9, 9, 9, 9]], ["a", "b"])
    table = measure_recording(clips, {"audio": audio}, tmp_path)
    expected = {"length": [3, 4, 5], "face size": [20, 30, np.nan], "brightness": [0.2, 0.8, np.nan]}
    expected |= {"loudness": [-25, -45, np.nan]}
    pd.testing.assert_frame_equal(
        table[list(expected)], pd.DataFrame(expected, ["a", "b", "c"], dtype=float), rtol=1e-5
    )
    assert len(table.columns) == 4
    named = {"voice": pd.DataFrame({"level.mean": [-1.0, -2], "speech.fraction": [0.5, 0.7]}, ["a", "b"])}
    table = measure_recording(clips, named | {"audio": audio}, tmp_path)
    assert table.loc["b", ["loudness", "speech"]].tolist() == [-2, 0.7]
    write_stream(tmp_path, "descriptors", [], {"settings": {"face_cells": 1}})
    descriptors = pd.DataFrame([[0.1, 0.2, 0.3, 8, 8], [0.2, 0.3, 0.4, 8, 8]], ["a", "b"])
    table = measure_recording(clips, {"descriptors": descriptors}, tmp_path)
    assert table["brightness"].tolist()[:2] == pytest.approx([0.2, 0.3])
    assert table.loc["a", "face size"] == 20


def test_headline_compares_the_model_with_attributes() -> None:
    scores, compared = score_model(WARMTH, 0.05)
    tables = [table.replace({"predictor": {"video_lookup": "ridge_attributes"}}) for table in (scores, compared)]
    text = verdict.describe_headline(*tables, WARMTH)[0]
    assert "ridge on attributes (0." in text
    names = ["model", "ridge_groups", "ridge_attributes", "ridge_recording", "mean_predictor", "ridge_text"]
    assert list(words.select_headline_predictors(names)) == [
        "model",
        "mean_predictor",
        "ridge_attributes",
        "ridge_text",
    ]


def test_baselines_read_groups_next_to_annotation_files(labels: pd.DataFrame, tmp_path: Path) -> None:
    names = [f"video{index % 20:06d}.{index // 20:03d}.mp4" for index in range(100)]
    genders = pd.DataFrame({"VideoName": names, "Gender": np.tile([1, 2], 50)})
    genders.to_csv(tmp_path / "eth_gender_annotations_dev.csv", sep=";", index=False)
    result = run_tool(
        tools.baselines, str(tmp_path), "--folds", "4", "--resamples", "100", "--out", str(tmp_path / "o.csv"), cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert "| ridge on attributes | 0." in result.stdout
