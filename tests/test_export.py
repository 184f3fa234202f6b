"""Export of a stream of vectors: files, provenance, and equal vectors when the stream `features` reads them."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import tools.export
from lib.core import shards
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.streams import base, features
from lib.streams.base import Raw
from tests.run_tool import call_main

CLIPS = ("-x y.000.mp4", "b.001.mp4", "c.mkv")
REJECTED = "d.mp4"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder data/ with the stream `embeddings`: three clips in two shards, and a rejected one."""
    monkeypatch.chdir(tmp_path)
    write_stream(Path("data"), (5,))
    return tmp_path / "data"


def write_stream(data: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for name in ("frames", "faces", "embeddings"):
        (data / name).mkdir(parents=True, exist_ok=True)
        content = {"settings": {"enabled": True, "name": name}, "shapes": {"": shape}}
        (data / name / base.ABOUT).write_text(json.dumps(content))
    for shard, clips in (("a", CLIPS[:2]), ("b", CLIPS[2:])):
        with h5py.File(data / "embeddings" / f"{shard}.h5", "w") as file:
            for number, clip in enumerate(clips, 1):
                values = rng.normal(size=(3 * number, *shape)).astype(np.float16 if len(shape) > 1 else np.float32)
                shards.write_record(file, Record(clip, {"values": values, "times": np.arange(3 * number) / 7}))
            shards.write_record(file, Record(f"{shard}{REJECTED}", rejected="faces: none"))


def read_stream(data: Path) -> dict[str, Record]:
    records = [record for path in sorted((data / "embeddings").glob("*.h5")) for record in shards.read_records(path)]
    return {record.clip: record for record in records if not record.rejected}


def check_round_trip(data: Path, pattern: str) -> None:
    records = read_stream(data)
    assert list(records) == list(CLIPS)
    for clip, record in records.items():
        read = features.look_up(Raw(clip, None, data / "export"), [pattern])
        assert not read.rejected
        np.testing.assert_array_equal(read.arrays["values"], record.arrays["values"])
        np.testing.assert_array_equal(read.arrays["times"], record.arrays["times"])


@pytest.mark.parametrize(
    ("file_format", "pattern"),
    [("npz", "embeddings.npz"), ("parquet", "embeddings.parquet"), ("pt", "embeddings/*.pt")],
)
def test_exported_stream_is_read_back_equal(
    data: Path, file_format: str, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call_main(tools.export, "--stream", "embeddings", "--format", file_format)
    assert "the vectors of 3 clips" in capsys.readouterr().out
    check_round_trip(data, pattern)
    (about,) = (data / "export").glob("*.json")
    provenance = json.loads(about.read_text())
    assert provenance["stream"] == "embeddings"
    assert provenance["settings"]["embeddings"] == {"enabled": True, "name": "embeddings"}
    assert provenance["settings"]["faces"]["name"] == "faces"  # the stream that it was made from
    assert provenance["clips"] == {CLIPS[0]: 3, CLIPS[1]: 6, CLIPS[2]: 3}
    assert provenance["rejected"] == {f"a{REJECTED}": "faces: none", f"b{REJECTED}": "faces: none"}
    assert provenance["versions"]["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.parametrize(("file_format", "pattern"), [("npz", "embeddings.npz"), ("pt", "embeddings/*.pt")])
def test_exported_layers_are_read_back_equal(data: Path, file_format: str, pattern: str) -> None:
    write_stream(data, (4, 5))
    call_main(tools.export, "--stream", "embeddings", "--format", file_format)
    check_round_trip(data, pattern)


def test_exported_files_have_the_documented_contents(data: Path, tmp_path: Path) -> None:
    first = read_stream(data)[CLIPS[0]].arrays
    for name in ("v.npz", "v.parquet", "v"):
        file_format = Path(name).suffix.removeprefix(".") or "pt"
        call_main(tools.export, "--stream", "embeddings", "--format", file_format, "--out", name)
    with np.load(tmp_path / "v.npz") as arrays:
        assert sorted(arrays) == sorted([*CLIPS, *(f"{clip}:times" for clip in CLIPS)])
        assert arrays[CLIPS[0]].dtype == np.float32
    table = pd.read_parquet(tmp_path / "v.parquet")
    assert list(table) == ["clip", "seconds", "v0", "v1", "v2", "v3", "v4"]
    assert len(table) == 12
    content = torch.load(tmp_path / "v" / f"{CLIPS[0]}.pt", weights_only=True)
    assert content["length"] == 3
    np.testing.assert_array_equal(content["emb"].numpy(), first["values"])


def test_export_of_one_array_names_it(data: Path) -> None:
    (data / "text").mkdir()
    about = {"settings": {}, "shapes": {"hashing": [2], "counts": [0], "sentence": [0]}}
    (data / "text" / base.ABOUT).write_text(json.dumps(about))
    with h5py.File(data / "text/a.h5", "w") as file:
        shards.write_record(file, Record("a.mp4", {"hashing": np.array([[1, 2]], np.float32)}))
    call_main(tools.export, "--stream", "text.hashing")
    with np.load(data / "export/text.hashing.npz") as arrays:
        assert arrays["a.mp4"].tolist() == [[1, 2]]
    with pytest.raises(InputError, match=r"data/text has no text\.counts; allowed: an array that"):
        call_main(tools.export, "--stream", "text.counts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no CLIP; allowed: one or several video files, or --stream NAME"),
        (["--format", "npz", "a.mp4"], "--format npz; allowed for a network: onnx, torch"),
        (["--stream", "embeddings", "--format", "onnx"], r"--format onnx; allowed for a stream \(--stream\): npz, "),
        (["--stream", "embeddings", "a.mp4"], "--stream embeddings with a.mp4; allowed: all clips"),
        (["--stream", "faces"], "faces has steps of kind pictures; allowed: vectors: "),
        (["--stream", "nothing"], "unknown stream 'nothing'; allowed: "),
        (["--stream", "features"], "features.enabled = false, but the stream is needed"),
        (["--stream", "embeddings", "--out", "v.csv"], r"--out v\.csv; allowed: a path that ends in \.npz"),
        (["--stream", "embeddings", "--format", "pt", "--out", "data"], "--out data exists; allowed for pt: a new or"),
    ],
)
def test_export_rejects_invalid_arguments(data: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call_main(tools.export, *arguments)


def test_export_rejects_layers_as_a_table(data: Path) -> None:
    write_stream(data, (4, 5))
    with pytest.raises(InputError, match=r"--format parquet: a step has the shape \[4, 5\]; .* use npz or pt"):
        call_main(tools.export, "--stream", "embeddings", "--format", "parquet")


def write_behaviour(data: Path) -> None:
    for name in ("frames", "faces", "landmarks", "flow", "behaviour"):
        (data / name).mkdir(exist_ok=True)
        shapes = {"steps": [2], "statistics": [2]}
        (data / name / base.ABOUT).write_text(json.dumps({"settings": {}, "shapes": shapes}))
    names = {"steps": ["pitch", "blink"], "statistics": ["pitch.mean", "blink.rate"]}
    with h5py.File(data / "behaviour/a.h5", "w") as file:
        for clip in ("a.mp4", "b.mp4"):
            arrays = {
                "steps": np.array([[90, 0], [np.nan, np.nan], [-45, 1]], np.float32),
                "statistics": np.array([[22.5, np.nan]], np.float32),
                "statistics.times": np.zeros(1),
                "found": np.array([2, 0, 1]),
                "valid": np.array([1, 0, 0]),
                "times": np.array([0, 0.2, 0.4]),
            }
            shards.write_record(file, Record(clip, arrays, {base.NAMES: json.dumps(names)}))
        shards.write_record(file, Record(REJECTED, rejected="faces: none"))


def test_csv_has_openface_columns_and_a_row_per_clip(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_behaviour(data)
    call_main(tools.export, "--stream", "behaviour", "--format", "csv")
    assert "the vectors of 2 clips" in capsys.readouterr().out
    steps = pd.read_csv(data / "export/behaviour.csv")
    assert list(steps) == ["clip", "frame", "timestamp", "success", "pose_Rx", "blink"]
    assert steps["clip"].tolist() == ["a.mp4", "a.mp4", "b.mp4", "b.mp4"]
    assert steps["frame"].tolist() == [1, 3, 1, 3]
    assert steps["success"].tolist() == [1, 0, 1, 0]
    assert steps["pose_Rx"][:2].tolist() == pytest.approx([np.pi / 2, -np.pi / 4], rel=1e-6)  # OpenFace has radians
    clips = pd.read_csv(data / "export/behaviour.clips.csv")
    assert list(clips) == ["clip", "pitch.mean", "blink.rate"]
    assert clips["pitch.mean"].tolist() == [22.5, 22.5]
    assert clips["blink.rate"].isna().all()
    about = json.loads((data / "export/behaviour.csv.json").read_text())
    assert (about["clips"], about["rejected"]) == ({"a.mp4": 2, "b.mp4": 2}, {REJECTED: "faces: none"})


def test_csv_of_statistics_is_read_by_the_stream_features(data: Path) -> None:
    write_behaviour(data)
    call_main(tools.export, "--stream", "behaviour.statistics", "--format", "csv", "--out", "data/export.csv")
    table = pd.read_csv("data/export.csv").drop(columns="blink.rate")
    table.to_csv("data/known.csv", index=False)
    read = features.look_up(Raw("a.mp4", None, data), ["known.csv"])
    assert read.arrays["values"].tolist() == [[22.5]]


def test_csv_of_numbers_without_names_numbers_them(data: Path) -> None:
    call_main(tools.export, "--stream", "embeddings", "--format", "csv")
    table = pd.read_csv(data / "export/embeddings.csv")
    assert list(table) == ["clip", "frame", "timestamp", "v0", "v1", "v2", "v3", "v4"]
    first = read_stream(data)[CLIPS[0]].arrays
    assert table[table["clip"] == CLIPS[0]]["v0"].to_numpy() == pytest.approx(first["values"][:, 0], rel=1e-5)
