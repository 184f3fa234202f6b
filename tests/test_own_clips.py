"""A user's own clips and ratings: from a zip file to the report, then a prediction with the trained model."""

import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from lib.media.writing import write_video
from lib.sources import table
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT
from tests.stage_runs import StageRuns

CLIPS = {"anna.mov": "training", "ben.mp4": "validation", "carla.mp4": "test"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    project = StageRuns(tmp_path_factory.mktemp("own"))
    archives = project.folder / "data/archives"
    with zipfile.ZipFile(archives / "recordings.zip", "w") as file:
        for number, name in enumerate(CLIPS):
            pictures, voice = render(Identity(number), Performance(0.5, 1.5, 0.5, number), 3.0, 15)
            write_video(project.folder / name, pictures, 15, voice, SAMPLE_RATE)
            file.write(project.folder / name, f"session {number}/{name}")
    ratings = pd.DataFrame(
        {"file": CLIPS.keys(), "split": CLIPS.values(), "warm": [2.0, 5.5, 6.0], "dominant": [7, 1, None]}
    )
    project.use_table(
        ratings, "download.table.targets={warm: [1, 7], dominant: [1, 7]}", "targets.own.columns=[warm, dominant]",
        "train.epochs=2", "evaluate.resamples=200", "analyse.control_repeats=1",
    )  # fmt: skip
    project.run_stages(draw=["predicted_against_actual"])
    return project


def test_tables_of_the_tutorial_are_read(tmp_path: Path) -> None:
    settings = table.Settings(path="clips.csv", targets={"warmth": [1, 7], "dominance": [1, 7]})
    (tmp_path / "annotations").mkdir()
    splits = []
    for text in find_code_blocks(ROOT / "docs/tutorials/own_clips.md", "text"):
        (tmp_path / "annotations/clips.csv").write_text(text)
        splits.append(table.rows(settings, tmp_path, [])["split"].tolist())
    assert splits == [[""] * 4, ["training", "validation", "test"]]


def test_own_clips_in_a_zip_get_a_report(project: StageRuns) -> None:
    predictions = pd.read_csv(project.folder / "data/predictions.csv").query("split == 'test'")
    assert predictions["clip"].unique().tolist() == ["carla.mp4"]
    assert predictions["target"].tolist() == ["warm", "dominant"]
    assert predictions["predicted"].between(1, 7).all()
    assert predictions["actual"].isna().tolist() == [False, True]
    for page in ("plots/report.html", "docs/model_card.md"):
        text = re.sub("<details.*?</details>", "", (project.folder / page).read_text(), flags=re.DOTALL)
        assert "warm" in text
        assert "traits" not in text.lower().replace("apparent personality traits", "")
        assert "extraversion" not in text
    assert (project.folder / "plots/figures/own/predicted_against_actual.png").stat().st_size > 5000


def test_predict_prints_columns_named_like_the_ratings(project: StageRuns) -> None:
    output = project.run_module("tools.predict", "carla.mp4")
    header, row = output.splitlines()[-2:]
    assert header.startswith("clip,warm,dominant,warm low,warm high,warm percentile,dominant low,")
    predictions = pd.read_csv(Path(project.folder, "data/predictions.csv"))
    predicted = predictions.loc[predictions["split"] == "test", "predicted"]
    assert [float(value) for value in row.split(",")[1:3]] == pytest.approx(predicted.tolist(), abs=1e-4)
