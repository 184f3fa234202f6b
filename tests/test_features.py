"""Vectors that the user has: what each kind of file comes to, and what is said of a mistake in one."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lib.core import shards
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data import pooled
from lib.streams import base, features
from lib.streams.base import Raw
from tests.conftest import REAL, needs_real_clips

A = "-x y.000.mp4"


def found(folder: Path, *patterns: str, clip: str = A) -> Record:
    return features.look_up(Raw(clip, None, folder), list(patterns))


def table(path: Path, text: str) -> None:
    path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")


@pytest.mark.parametrize("name", [A, "-x y.000"])
@pytest.mark.parametrize("column", ["clip", "File", "id", "videoName"])
def test_a_table_has_a_row_a_clip(tmp_path: Path, name: str, column: str) -> None:
    rows = pd.DataFrame({"second": [0.1, 0.3], column: [name, "other.000.mp4"], "first": [2, 4]})
    rows.to_csv(tmp_path / "of.csv", index=False)
    rows.to_parquet(tmp_path / "of.parquet", index=False)
    for pattern in ("*.csv", "of.parquet"):
        record = found(tmp_path, pattern)
        assert record.arrays["values"].dtype == np.float32
        assert record.arrays["values"] == pytest.approx(np.array([[0.1, 2]]))
        assert record.arrays["times"].tolist() == [0]
        assert found(tmp_path, pattern, clip="other.000.mp4").arrays["values"] == pytest.approx(np.array([[0.3, 4]]))


@pytest.mark.parametrize("name", [A, "-x y.000"])
def test_arrays_have_an_entry_a_clip(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "one.npz", **{name: np.array([1.5, 2, 3])})
    several = {name: np.arange(6.0).reshape(3, 2), f"{name}:times": np.array([0.5, 1, 2])}
    np.savez(tmp_path / "several.npz", **several)
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file[name] = np.array([1.5, 2, 3])
    with h5py.File(tmp_path / "several.hdf5", "w") as file:
        file[f"{name}/values"], file[f"{name}/times"] = several.values()
    for one in ("one.npz", "one.h5"):
        assert found(tmp_path, one).arrays["values"].tolist() == [[1.5, 2, 3]]
        assert found(tmp_path, one).arrays["times"].tolist() == [0]
    for one in ("several.npz", "several.hdf5"):
        record = found(tmp_path, one)
        assert record.arrays["values"].tolist() == [[0, 1], [2, 3], [4, 5]]
        assert record.arrays["times"].tolist() == [0.5, 1, 2]


def test_patterns_stand_side_by_side_and_a_patterns_files_hold_different_clips(tmp_path: Path) -> None:
    table(tmp_path / "words_training.csv", f"clip,a,b\n{A},1,2")
    table(tmp_path / "words_test.csv", "clip,a,b\nother.mp4,3,4")
    np.savez(tmp_path / "faces.npz", **{A: np.array([9.0]), "other": np.array([8.0])})
    assert found(tmp_path, "words_*.csv", "faces.npz").arrays["values"].tolist() == [[1, 2, 9]]
    assert found(tmp_path, "faces.npz", "words_*.csv", clip="other.mp4").arrays["values"].tolist() == [[8, 3, 4]]
    settings = features.Settings(enabled=True, files=["words_*.csv", "faces.npz"])
    names = [path.name for path in features.annotation_files(settings, tmp_path)]
    assert names == ["words_test.csv", "words_training.csv", "faces.npz"]  # what a shard's fingerprint covers


def test_several_times_are_sorted_and_read_by_the_step(tmp_path: Path) -> None:
    table(
        tmp_path / "of.csv",
        f"""clip,seconds,time,b
        {A},2.0,30,3
        other.mp4,0.0,0,0
        {A},0.5,10,1
        {A},1.0,20,2""",
    )
    record = found(tmp_path, "of.csv")
    assert record.arrays["times"].tolist() == [0.5, 1, 2]
    assert features.read_steps(record, np.array([0, 2])).tolist() == [[10, 1], [30, 3]]
    pooled = base.pool_steps(base.load("features"), record)
    assert pooled == pytest.approx([20, 2, np.std([10, 20, 30]), np.std([1, 2, 3])])


def test_a_clip_that_lacks_something_is_refused_with_the_reason(tmp_path: Path) -> None:
    table(tmp_path / "of.csv", f"clip,a,b\n{A},1,2\nhalf.mp4,1,\ninf.mp4,inf,1")
    table(tmp_path / "times.csv", f"clip,seconds,a\n{A},0,1\n{A},1,1\nhole.mp4,,1")
    assert found(tmp_path, "of.csv", clip="lost.mp4").refused == "features: not in of.csv"
    assert found(tmp_path, "of.csv", clip="half.mp4").refused == "features: of.csv lacks a number"
    assert found(tmp_path, "of.csv", clip="inf.mp4").refused == "features: of.csv lacks a number"
    assert found(tmp_path, "times.csv", clip="hole.mp4").refused == "features: times.csv lacks a number"
    assert found(tmp_path, "of.csv", "times.csv").refused == "features: times.csv has other times than of.csv"
    assert "outside the corpus" in features.look_up(Raw(A, None, None), ["of.csv"]).refused


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_a_mistake_in_a_table_is_named(tmp_path: Path, text: str, said: str) -> None:
    table(tmp_path / "of.csv", text)
    with pytest.raises(InputError, match=said):
        found(tmp_path, "of.csv", clip="x.mp4")


def test_a_mistake_in_arrays_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{A: np.zeros((3, 2))})
    with pytest.raises(
        InputError, match=rf"a\.npz: {A} has 3 vectors but no times; add times in seconds as '{A}:times'"
    ):
        found(tmp_path, "a.npz")
    np.savez(tmp_path / "b.npz", **{A: np.zeros((3, 2)), f"{A}:times": np.zeros(2)})
    with pytest.raises(InputError, match=rf"b\.npz: {A} has 3 vectors and 2 times"):
        found(tmp_path, "b.npz")


def test_files_that_are_not_there_or_of_another_kind_are_named(tmp_path: Path) -> None:
    table(tmp_path / "of.csv", "clip,a\nx.mp4,1")
    (tmp_path / "of.pkl").touch()
    with pytest.raises(
        InputError, match=r"features\.files has 'words\*', which matches no file .* there: of\.csv, of\.pkl"
    ):
        found(tmp_path, "words*")
    with pytest.raises(
        InputError, match=r"features\.files matches of\.pkl; allowed: files that end in \.csv, \.parquet, "
    ):
        found(tmp_path, "of.*")


def test_names_of_digits_keep_their_zeros(tmp_path: Path) -> None:
    table(tmp_path / "of.csv", "id,a\n007,1\n7,2")
    assert found(tmp_path, "of.csv", clip="007.mp4").arrays["values"].tolist() == [[1]]
    with h5py.File(tmp_path / "of.h5", "w") as file:
        file["007"] = np.array([5.0])
    assert found(tmp_path, "of.h5", clip="007").arrays["values"].tolist() == [[5]]
    assert found(tmp_path, "of.h5", clip="008").refused == "features: not in of.h5"


@needs_real_clips
def test_real_word_categories_are_read_as_distributed(tmp_path: Path) -> None:
    source = next(REAL.glob("liwc_*.csv"))
    shutil.copy(source, tmp_path)
    rows = pd.read_csv(source)
    name = rows.columns[0] if rows.columns[0].lower() in ("clip", "file", "id", "videoname") else "clip"
    row = rows.iloc[100]
    values = found(tmp_path, "liwc_*.csv", clip=row[name]).arrays["values"]
    assert values.shape == (1, 93)
    assert values[0] == pytest.approx(row.drop(name).to_numpy(float), rel=1e-6)


def test_the_numbers_of_each_pattern_are_a_part_that_baselines_read_alone(tmp_path: Path) -> None:
    table(tmp_path / "words_all.csv", f"clip,seconds,a,b\n{A},0,1,2\n{A},1,3,4\nother.mp4,0,5,6\nother.mp4,1,5,8")
    table(tmp_path / "faces.csv", f"clip,seconds,c\n{A},0,9\n{A},1,7\nother.mp4,0,1\nother.mp4,1,1")
    (tmp_path / "data/features").mkdir(parents=True)
    (tmp_path / "data/features" / base.ABOUT).touch()
    with h5py.File(tmp_path / "data/features/a.h5", "w") as file:
        for clip in (A, "other.mp4"):
            shards.write_record(file, found(tmp_path, "words_*.csv", "faces.csv", clip=clip))
    read = pooled.pool_vectors(tmp_path / "data")
    assert list(read) == ["features", "features.words", "features.faces"]
    assert read["features"].loc[A].tolist() == [2, 3, 8, 1, 1, 1]  # means, then standard deviations
    assert read["features.words"].loc["other.mp4"].tolist() == [5, 7, 0, 1]
    assert read["features.faces"].loc[A].tolist() == [8, 1]
    assert features._names(["a*.csv", "a.npz"]) == ["a*.csv", "a.npz"]
