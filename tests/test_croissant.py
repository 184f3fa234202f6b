"""data/croissant.json is valid Croissant 1.1, describes each column, and keeps what it must not show."""

import json
from pathlib import Path
from typing import Any

import mlcroissant
import pandas as pd
import pytest

from lib.core.clips import column_names
from lib.core.targets import TRAITS
from lib.report import croissant
from lib.report.page import PipelineRun
from lib.sources.listing import File
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT
from tests.report_data import FIVE_TRAITS, TRAINING_SUMMARY

CLIP = {
    "clip": "a b.mp4", "video": "a", "split": "test", "shard": "one", "file": "x/a b.mp4", "sha256": "0" * 64,
    "start": None, "end": None, "duration": 3.5, "fps": 15.0, "width": 320, "height": 240, "audio": True, "damaged": 0,
    "reason": "",
}  # fmt: skip
ARCHIVES = {
    "annotation training.zip": File(5, "a" * 64),
    "clips/secret.mp4": File(7, "b" * 64),
    "ratings.csv": File(9, "c" * 64),
}
NO_GROUPS = pd.DataFrame(columns=["what", "predictor", "kind", "group", "clips", "videos"])


def describe(folder: Path, source: str, names: str = "clip", labels: tuple[str, ...] = TRAITS) -> dict[str, Any]:
    """Return the contents of croissant.json for one clip of a source; write it and the clip table to `folder`."""
    row = CLIP | {"corpus": source} | dict.fromkeys(labels, 0.25)
    rejected = row | {"clip": "c", "width": None, "duration": None, "audio": None, "reason": "too short"}
    clips = pd.DataFrame([row, rejected])[column_names(labels)]
    clips.to_csv(folder / croissant.TABLE, index=False)
    counts = {"annotated": 2, "files": 2, "usable": 1, "rejected": {"too short": 1}}
    data = {"sources": [source], "corpora": {source: counts}, "annotation_files": {"a": "as distributed"}}
    run = PipelineRun(TRAINING_SUMMARY, data, "test", {"figures": {"names": names}, "faces": {"enabled": True}}, {})
    table = folder / croissant.TABLE
    described = croissant.make_croissant(clips, NO_GROUPS, {"traits": FIVE_TRAITS}, run, table, ARCHIVES)
    (folder / "croissant.json").write_text(json.dumps(described))
    return described


@pytest.mark.slow
@pytest.mark.parametrize("source", ["fiv2", "mosei", "vlogs", "demo", "table"])
def test_croissant_is_valid_for_each_source(tmp_path: Path, source: str, caplog: pytest.LogCaptureFixture) -> None:
    labels = ("w/h", "a b", "warm_n", "warm_sd", "warm") if source == "table" else TRAITS
    described = describe(tmp_path, source, labels=labels)
    dataset = mlcroissant.Dataset(tmp_path / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert "not standard" not in caplog.text
    metadata = dataset.metadata.to_json()
    assert metadata["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    assert {field for field in described if field.startswith("rai:")} <= metadata.keys()
    assert metadata["rai:dataUseCases"]
    assert metadata["rai:dataBiases"]


def test_croissant_describes_each_column_of_the_clip_table(tmp_path: Path) -> None:
    assert [name for name in column_names(()) if name not in croissant.COLUMNS] == []
    (records,) = describe(tmp_path, "demo")["recordSet"]
    fields = {field["name"]: field["description"] for field in records["field"]}
    assert [*fields] == column_names(TRAITS)
    assert (
        fields["openness"] == "The label openness, 0 to 1, predicted in the group traits; planted in nothing (noise)."
    )


def test_croissant_loads_the_clip_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    describe(tmp_path / "data", "fiv2")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(find_code_blocks(ROOT / "docs/tutorials/share.md", "python")[1], scope)
    first, second = scope["rows"]
    assert first["table/clip"] == b"a b.mp4"
    assert (first["table/openness"], first["table/duration"], first["table/audio"]) == (0.25, 3.5, True)
    assert second["table/reason"] == b"too short"


def test_croissant_lists_archives_with_checksums(tmp_path: Path) -> None:
    files = {entry["@id"]: entry for entry in describe(tmp_path, "fiv2")["distribution"]}
    assert files["archives/annotation%20training.zip"]["sha256"] == "a" * 64
    assert files["archives/ratings.csv"]["encodingFormat"] == "text/csv"
    assert files["videos"]["description"] == "Videos as collected: 1 files."


def test_croissant_hides_file_names_with_pseudonyms(tmp_path: Path) -> None:
    text = json.dumps(describe(tmp_path, "table", names="pseudonym"))
    assert not any(name in text for name in ("secret", "training.zip", "ratings", CLIP["clip"]))


def test_croissant_states_only_known_facts(tmp_path: Path) -> None:
    own, demo = describe(tmp_path, "table"), describe(tmp_path, "demo")
    assert "license" not in own
    assert "rai:dataCollection" not in own
    assert "To fill in" not in json.dumps(own)
    assert "public domain" in demo["license"][0]
    assert "Eileen Collins" in demo["rai:personalSensitiveInformation"][0]
    assert "ponce" not in json.dumps(demo)
    assert "ponce2016" in describe(tmp_path, "fiv2")["citeAs"]
