"""Users' feature files: how each kind is read, and messages about invalid files."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from lib.core import shards
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data import pooled
from lib.media.writing import write_video
from lib.sources._archives import annotation_place
from lib.streams import base, features
from lib.streams.base import Raw
from tests.conftest import REAL, needs_real_clips

CLIP = "-x y.000.mp4"


def look_up(folder: Path, *patterns: str, clip: str = CLIP) -> Record:
    return features.look_up(Raw(clip, None, folder), list(patterns))


def write_table(path: Path, text: str) -> None:
    path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")


@pytest.mark.parametrize("name", [CLIP, "-x y.000"])
@pytest.mark.parametrize("column", ["clip", "File", "id", "videoName"])
def test_feature_table_has_a_row_per_clip(tmp_path: Path, name: str, column: str) -> None:
    rows = pd.DataFrame({"second": [0.1, 0.3], column: [name, "other.000.mp4"], "first": [2, 4]})
    rows.to_csv(tmp_path / "of.csv", index=False)
    rows.to_parquet(tmp_path / "of.parquet", index=False)
    for pattern in ("*.csv", "of.parquet"):
        record = look_up(tmp_path, pattern)
        assert record.arrays["values"].dtype == np.float32
        assert record.arrays["values"] == pytest.approx(np.array([[0.1, 2]]))
        assert base.step_times(record).tolist() == [0]
        assert look_up(tmp_path, pattern, clip="other.000.mp4").arrays["values"] == pytest.approx(np.array([[0.3, 4]]))


@pytest.mark.parametrize("name", [CLIP, "-x y.000"])
def test_feature_arrays_have_an_entry_per_clip(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "one.npz", **{name: np.array([1.5, 2, 3])})
    several = {name: np.arange(6.0).reshape(3, 2), f"{name}:times": np.array([0.5, 1, 2])}
    np.savez(tmp_path / "several.npz", **several)
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file[name] = np.array([1.5, 2, 3])
    with h5py.File(tmp_path / "several.hdf5", "w") as file:
        file[f"{name}/values"], file[f"{name}/times"] = several.values()
    for name_of_file in ("one.npz", "one.h5"):
        assert look_up(tmp_path, name_of_file).arrays["values"].tolist() == [[1.5, 2, 3]]
        assert base.step_times(look_up(tmp_path, name_of_file)).tolist() == [0]
    for name_of_file in ("several.npz", "several.hdf5"):
        record = look_up(tmp_path, name_of_file)
        assert record.arrays["values"].tolist() == [[0, 1], [2, 3], [4, 5]]
        assert record.arrays["times"].tolist() == [0.5, 1, 2]


def test_feature_patterns_are_joined_and_their_files_merged(tmp_path: Path) -> None:
    write_table(tmp_path / "words_training.csv", f"clip,a,b\n{CLIP},1,2")
    write_table(tmp_path / "words_test.csv", "clip,a,b\nother.mp4,3,4")
    np.savez(tmp_path / "faces.npz", **{CLIP: np.array([9.0]), "other": np.array([8.0])})
    assert look_up(tmp_path, "words_*.csv", "faces.npz").arrays["values"].tolist() == [[1, 2, 9]]
    assert look_up(tmp_path, "faces.npz", "words_*.csv", clip="other.mp4").arrays["values"].tolist() == [[8, 3, 4]]
    settings = features.Settings(enabled=True, files=["words_*.csv", "faces.npz"])
    names = [path.name for path in features.annotation_files(settings, tmp_path)]
    assert names == ["words_test.csv", "words_training.csv", "faces.npz"]  # the files that a shard's fingerprint covers


def test_feature_rows_with_times_are_sorted_by_time(tmp_path: Path) -> None:
    write_table(
        tmp_path / "of.csv",
        f"""clip,seconds,time,b
        {CLIP},2.0,30,3
        other.mp4,0.0,0,0
        {CLIP},0.5,10,1
        {CLIP},1.0,20,2""",
    )
    record = look_up(tmp_path, "of.csv")
    assert record.arrays["times"].tolist() == [0.5, 1, 2]
    assert features.read_steps(record, np.array([0, 2])).tolist() == [[10, 1], [30, 3]]
    pooled_steps = base.pool_steps(base.load("features"), record, True)
    assert pooled_steps == pytest.approx([20, 2, np.std([10, 20, 30]), np.std([1, 2, 3])])


def test_incomplete_features_reject_the_clip_with_a_reason(tmp_path: Path) -> None:
    write_table(tmp_path / "of.csv", f"clip,a,b\n{CLIP},1,2\nhalf.mp4,1,\ninf.mp4,inf,1")
    write_table(tmp_path / "times.csv", f"clip,seconds,a\n{CLIP},0,1\n{CLIP},1,1\nhole.mp4,,1")
    assert look_up(tmp_path, "of.csv", clip="lost.mp4").rejected == "features: not in of.csv"
    assert look_up(tmp_path, "of.csv", clip="half.mp4").rejected == "features: of.csv lacks a number"
    assert look_up(tmp_path, "of.csv", clip="inf.mp4").rejected == "features: of.csv lacks a number"
    assert look_up(tmp_path, "times.csv", clip="hole.mp4").rejected == "features: times.csv lacks a number"
    assert look_up(tmp_path, "of.csv", "times.csv").rejected == "features: times.csv has other times than of.csv"
    assert "outside the corpus" in features.look_up(Raw(CLIP, None, None), ["of.csv"]).rejected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "clip,a\nx.mp4,1\ny.mp4,2\nx.mp4,3",
            r"of\.csv has clip x\.mp4 twice at the same time, in rows 2 and 4; remove",
        ),
        ("clip,seconds,a\nx.mp4,0,1\nx.mp4,1,1\nx.mp4,1,1", r"clip x\.mp4 twice at the same time, in rows 3 and 4"),
        ("clip,a,mood\nx.mp4,1,good", r"of\.csv: column mood contains values that are not numbers"),
        ("clip,a\nx.mp4,1\ny.mp4,?", r"of\.csv: column a contains values that are not numbers"),
        (
            "who,a\nx.mp4,1",
            r"of\.csv has the columns who, a; required: a column of clips, called clip, file, id or videoname",
        ),
    ],
)
def test_invalid_feature_table_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    write_table(tmp_path / "of.csv", text)
    with pytest.raises(InputError, match=message):
        look_up(tmp_path, "of.csv", clip="x.mp4")


def test_feature_arrays_with_wrong_times_are_rejected(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{CLIP: np.zeros((3, 2))})
    with pytest.raises(
        InputError, match=rf"a\.npz: {CLIP} has 3 vectors but no times; add times in seconds as '{CLIP}:times'"
    ):
        look_up(tmp_path, "a.npz")
    np.savez(tmp_path / "b.npz", **{CLIP: np.zeros((3, 2)), f"{CLIP}:times": np.zeros(2)})
    with pytest.raises(InputError, match=rf"b\.npz: {CLIP} has 3 vectors and 2 times"):
        look_up(tmp_path, "b.npz")


def test_missing_or_unsupported_feature_files_are_named(tmp_path: Path) -> None:
    write_table(tmp_path / "of.csv", "clip,a\nx.mp4,1")
    (tmp_path / "of.pkl").touch()
    with pytest.raises(
        InputError, match=r"features\.files has 'words\*', which matches no file .* there: of\.csv, of\.pkl"
    ):
        look_up(tmp_path, "words*")
    with pytest.raises(
        InputError, match=r"features\.files matches of\.pkl; allowed: files that end in \.csv, \.parquet, "
    ):
        look_up(tmp_path, "of.*")


def test_clip_names_of_digits_keep_leading_zeros(tmp_path: Path) -> None:
    write_table(tmp_path / "of.csv", "id,a\n007,1\n7,2")
    assert look_up(tmp_path, "of.csv", clip="007.mp4").arrays["values"].tolist() == [[1]]
    with h5py.File(tmp_path / "of.h5", "w") as file:
        file["007"] = np.array([5.0])
    assert look_up(tmp_path, "of.h5", clip="007").arrays["values"].tolist() == [[5]]
    assert look_up(tmp_path, "of.h5", clip="008").rejected == "features: not in of.h5"


@needs_real_clips
def test_real_word_category_table_is_read(tmp_path: Path) -> None:
    source = next(REAL.glob("liwc_*.csv"))
    shutil.copy(source, tmp_path)
    rows = pd.read_csv(source)
    name = rows.columns[0] if rows.columns[0].lower() in ("clip", "file", "id", "videoname") else "clip"
    row = rows.iloc[100]
    values = look_up(tmp_path, "liwc_*.csv", clip=row[name]).arrays["values"]
    assert values.shape == (1, 93)
    assert values[0] == pytest.approx(row.drop(name).to_numpy(float), rel=1e-6)


def test_baselines_read_each_feature_pattern_separately(tmp_path: Path) -> None:
    write_table(
        tmp_path / "words_all.csv", f"clip,seconds,a,b\n{CLIP},0,1,2\n{CLIP},1,3,4\nother.mp4,0,5,6\nother.mp4,1,5,8"
    )
    write_table(tmp_path / "faces.csv", f"clip,seconds,c\n{CLIP},0,9\n{CLIP},1,7\nother.mp4,0,1\nother.mp4,1,1")
    (tmp_path / "data/features").mkdir(parents=True)
    (tmp_path / "data/features" / base.ABOUT).touch()
    with h5py.File(tmp_path / "data/features/a.h5", "w") as file:
        for clip in (CLIP, "other.mp4"):
            shards.write_record(file, look_up(tmp_path, "words_*.csv", "faces.csv", clip=clip))
    pooled_vectors = pooled.pool_vectors(tmp_path / "data")
    assert list(pooled_vectors) == ["features", "features.words", "features.faces"]
    assert pooled_vectors["features"].loc[CLIP].tolist() == [2, 3, 8, 1, 1, 1]  # means, then standard deviations
    assert pooled_vectors["features.words"].loc["other.mp4"].tolist() == [5, 7, 0, 1]
    assert pooled_vectors["features.faces"].loc[CLIP].tolist() == [8, 1]
    assert features._names(["a*.csv", "a.npz"]) == ["a*.csv", "a.npz"]


def test_clip_with_one_step_among_longer_ones_has_no_deviation(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", f"clip,seconds,a,b\n{CLIP},0,1,2\nother.mp4,0,5,6\nother.mp4,1,5,8")
    (tmp_path / "data/features").mkdir(parents=True)
    (tmp_path / "data/features" / base.ABOUT).touch()
    with h5py.File(tmp_path / "data/features/a.h5", "w") as file:
        for clip in (CLIP, "other.mp4"):
            shards.write_record(file, look_up(tmp_path, "a.csv", clip=clip))
    vectors = pooled.pool_vectors(tmp_path / "data")["features"]
    assert vectors.to_numpy().tolist() == [[1, 2, 0, 0], [5, 7, 0, 1]]


def write_tensors(path: Path, **content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)


def test_published_embedding_files_have_a_clip_each(tmp_path: Path) -> None:
    emb = torch.arange(30 * 1024.0).reshape(30, 1024)
    write_tensors(tmp_path / "embeddings/-x y.000.pt", emb=emb, length=30)
    write_tensors(tmp_path / "embeddings/short.000.mp4.pt", emb=emb, length=4)
    record = look_up(tmp_path, "embeddings/*.pt")
    np.testing.assert_array_equal(record.arrays["values"], emb.numpy())
    assert record.arrays["times"] == pytest.approx(np.linspace(0, 15, 30))  # without video as long as FIV2's clips
    short = look_up(tmp_path, "embeddings/*.pt", clip="short.000.mp4")
    np.testing.assert_array_equal(short.arrays["values"], emb[:4].numpy())  # the other rows are padding
    assert short.arrays["times"].tolist() == [0, 5, 10, 15]
    assert look_up(tmp_path, "embeddings/*.pt", clip="lost.mp4").rejected == "features: not in embeddings/*.pt"
    settings = features.Settings(enabled=True, files=["embeddings/*.pt"])
    names = [path.name for path in features.annotation_files(settings, tmp_path)]
    assert names == ["-x y.000.pt", "short.000.mp4.pt"]


def test_embedding_times_span_the_clip(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.pt", emb=torch.ones(5, 2), length=5)
    write_video(tmp_path / "a.mp4", np.zeros((20, 32, 32, 3), np.uint8), 10, np.zeros(16000, np.float32), 16000)
    raw = Raw("a.mp4", tmp_path / "a.mp4", tmp_path)
    assert features.look_up(raw, ["a.pt"]).arrays["times"] == pytest.approx([0, 0.5, 1, 1.5, 2])
    part = raw._replace(span=(3.0, 7.0))
    assert features.look_up(part, ["a.pt"]).arrays["times"].tolist() == [0, 1, 2, 3, 4]
    (tmp_path / "a.mp4").write_text("no video")
    assert "the duration of its video is unknown" in features.look_up(raw, ["a.pt"]).rejected
    write_tensors(tmp_path / "b.pt", emb=torch.ones(2, 2), times=torch.tensor([0.25, 0.5]))
    assert features.look_up(raw._replace(clip="b.mp4"), ["b.pt"]).arrays["times"].tolist() == [0.25, 0.5]
    write_tensors(tmp_path / "c.pt", emb=torch.ones(2))  # one vector of the clip
    assert features.look_up(raw._replace(clip="c.mp4"), ["c.pt"]).arrays["values"].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"embedding": torch.ones(2, 2)}, "no tensor `emb` of one, two or three dimensions"),
        ({"emb": torch.ones(2, 2), "length": 3}, "its length is 3; allowed: 1 to 2, its number of vectors"),
        ({"emb": torch.ones(2, 2), "length": 0}, "its length is 0"),
        ({"emb": torch.ones(2, 2), "times": torch.ones(3)}, "its times are not a tensor with one number per vector"),
        ({"emb": torch.tensor([[1.0, torch.nan]]), "length": 1}, "lacks a number"),
        ({"emb": Path("x")}, "contains code, which was not run"),
    ],
)
def test_invalid_embedding_file_rejects_its_clip(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    write_tensors(tmp_path / "a.pt", **content)
    rejected = look_up(tmp_path, "*.pt", clip="a.mp4").rejected
    assert rejected.startswith("features: *.pt")
    assert reason in rejected


def test_damaged_embedding_file_rejects_its_clip(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.pt", emb=torch.ones(100, 100), length=100)
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:1000])
    assert look_up(tmp_path, "*.pt", clip="a.mp4").rejected == "features: *.pt: the file is damaged"


def test_two_embedding_files_of_a_clip_are_rejected(tmp_path: Path) -> None:
    for folder in ("faces", "frames"):
        write_tensors(tmp_path / folder / "a.pt", emb=torch.ones(1, 2), length=1)
    with pytest.raises(InputError, match=r"matches .*faces/a\.pt and .*frames/a\.pt; allowed: one file per clip"):
        look_up(tmp_path, "*/*.pt", clip="a.mp4")
    assert look_up(tmp_path, "faces/*.pt", "frames/*.pt", clip="a.mp4").arrays["values"].shape == (1, 4)


def test_archive_keeps_folders_of_embedding_files() -> None:
    assert annotation_place(Path("embeddings/a.000.pt")) == Path("annotations/embeddings/a.000.pt")


def test_features_with_layers_are_joined_along_the_numbers(tmp_path: Path) -> None:
    write_tensors(tmp_path / "one/a.pt", emb=torch.ones(2, 3, 4), times=torch.arange(2.0))
    write_tensors(tmp_path / "two/a.pt", emb=torch.zeros(2, 3, 1), times=torch.arange(2.0))
    write_tensors(tmp_path / "flat/a.pt", emb=torch.zeros(2, 1), times=torch.arange(2.0))
    record = look_up(tmp_path, "one/*.pt", "two/*.pt", clip="a.mp4")
    assert record.arrays["values"].shape == (2, 3, 5)
    rejected = look_up(tmp_path, "one/*.pt", "flat/*.pt", clip="a.mp4").rejected
    assert rejected == "features: flat/*.pt has other layers than one/*.pt"


def write_two_patterns(folder: Path) -> None:
    """Two tables of one number and two numbers. The clip `both` is in both, the others in one."""
    write_table(folder / "a.csv", "clip,x\nboth,1\nfirst,2\n")
    write_table(folder / "b.csv", "clip,y,z\nboth,3,\nsecond,4,5\n")


def test_missing_patterns_and_numbers_are_kept_as_nan(tmp_path: Path) -> None:
    write_two_patterns(tmp_path)
    values = {}
    for clip in ("both", "first", "second"):
        record = features.look_up(Raw(clip, None, tmp_path), ["a.csv", "b.csv"], "keep")
        assert json.loads(record.attributes["parts"]) == {"a": 1, "b": 2}
        values[clip] = record.arrays["values"][0]
    np.testing.assert_array_equal(values["both"], [1, 3, np.nan])
    np.testing.assert_array_equal(values["first"], [2, np.nan, np.nan])
    np.testing.assert_array_equal(values["second"], [np.nan, 4, 5])
    assert features.look_up(Raw("lost", None, tmp_path), ["a.csv", "b.csv"], "keep").rejected == "features: in no file"
    assert look_up(tmp_path, "a.csv", "b.csv", clip="first").rejected == "features: not in b.csv"


def test_ridge_leaves_out_clips_without_the_pattern(tmp_path: Path) -> None:
    write_two_patterns(tmp_path)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / base.ABOUT).write_text("{}")
    with h5py.File(tmp_path / "features/all.h5", "w") as file:
        for clip in ("both", "first", "second"):
            shards.write_record(file, features.look_up(Raw(clip, None, tmp_path), ["a.csv", "b.csv"], "keep"))
    tables = pooled.pool_vectors(tmp_path)
    assert list(tables["features.a"].index) == ["both", "first"]
    assert list(tables["features.b"].index) == ["both", "second"]
    assert len(tables["features"]) == 3


def test_numbers_of_16_bits_stay_16_bits_in_shards(tmp_path: Path) -> None:
    numbers = np.array([[0.1, 2.0]], np.float16)
    np.savez(tmp_path / "half.npz", **{"a.mp4": numbers})
    np.savez(tmp_path / "single.npz", **{"a.mp4": numbers.astype(np.float32)})
    record = look_up(tmp_path, "half.npz", clip="a.mp4")
    assert record.arrays["values"].dtype == np.float16
    read = features.read_steps(record, np.array([0]))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, numbers.astype(np.float32))
    assert look_up(tmp_path, "half.npz", "single.npz", clip="a.mp4").arrays["values"].dtype == np.float32
