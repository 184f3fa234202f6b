"""Users' archives, clip names and labels: no file is dropped silently or with a wrong reason."""

import io
import pickle
import struct
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.clips import read_clip_table
from lib.core.errors import InputError, SettingError
from lib.scoring import predictions
from lib.sources import _import, fiv2, listing, table
from lib.sources import _persons as persons
from lib.sources._archives import Unpacker
from lib.sources.fiv2 import LATTICE, SCORES
from lib.streams import features
from lib.streams.base import Raw

NAMES_LIKE_NAN = ["NA", "null", "nan", "None", "007"]


def unpack(folder: Path, source: str = "fiv2") -> list[str]:
    place = partial({"fiv2": fiv2.place, "table": table._place}[source], videos=True)
    (folder / "raw").mkdir(exist_ok=True)
    paths = Unpacker(folder / "raw", (), "", place).unpack(folder / "archives")
    return sorted(path.as_posix() for path in paths)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    (tmp_path / "archives").mkdir()
    return tmp_path / "archives"


def write_zip(path: Path, *entries: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries:
            file.writestr(name, content)


def test_clips_named_like_missing_values_are_kept(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"clip": NAMES_LIKE_NAN, "video": NAMES_LIKE_NAN, "corpus": "NA", "split": "test", "shard": "s", "file": ""}
    )
    rows = rows.assign(
        video_in_training=False, targets="traits", target="openness", actual=0.5, predicted=0.25, reason=""
    )
    rows.to_csv(tmp_path / "clips.csv", index=False)
    table = read_clip_table(tmp_path / "clips.csv")
    assert table["clip"].tolist() == table["video"].tolist() == NAMES_LIKE_NAN
    labels = table.assign(openness=0.5)
    predicted = predictions.read(str(tmp_path / "clips.csv"), "traits", ["openness"], labels, NAMES_LIKE_NAN)
    assert predicted["openness"].to_dict() == dict.fromkeys(NAMES_LIKE_NAN, 0.25)
    rows[["clip", "predicted"]].rename(columns={"predicted": "openness"}).to_csv(tmp_path / "wide.csv", index=False)
    predicted = predictions.read(str(tmp_path / "wide.csv"), "traits", ["openness"], labels, NAMES_LIKE_NAN)
    assert predicted["openness"].to_dict() == dict.fromkeys(NAMES_LIKE_NAN, 0.25)
    groups = "clip,hand\n" + "".join(f"{name},left\n" for name in NAMES_LIKE_NAN)
    (tmp_path / "groups.csv").write_text(groups)
    assert (persons.read_groups([tmp_path / "groups.csv"], NAMES_LIKE_NAN, {})["hand"] == "left").all()
    rows[["clip", "actual"]].to_csv(tmp_path / "vectors.csv", index=False)
    for name in NAMES_LIKE_NAN:
        assert features.look_up(Raw(name, None, tmp_path), ["vectors.csv"]).arrays["values"].tolist() == [[0.5]]


def test_unpacker_names_unsupported_compression(archives: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("abcdefghijk.000.mp4", b"x" * 50)
    content = bytearray(buffer.getvalue())
    for position in (8, content.index(b"PK\1\2") + 10):
        content[position : position + 2] = struct.pack("<H", 9)  # Deflate64
    (archives / "a.zip").write_bytes(content)
    with pytest.raises(
        InputError, match=r"mp4 uses a compression method that is not supported \(.*deflate64\)\); unpack the"
    ):
        unpack(tmp_path)


def test_unpacker_ignores_macos_metadata_files(archives: Path, tmp_path: Path) -> None:
    write_zip(
        archives / "a.zip",
        ("._a.000.mp4", b"x"),
        ("__MACOSX/b.000.mp4", b"x"),
        (".x/c.000.mp4", b"x"),
        ("d.000.mp4", b"d"),
    )
    (archives / "._e.000.mp4").write_bytes(b"x")
    assert [Path(name).name for name in unpack(tmp_path)] == ["d.000.mp4"]


def test_unpacker_rejects_names_longer_than_255_bytes(archives: Path, tmp_path: Path) -> None:
    write_zip(archives / "a.zip", ("ä" * 130 + ".000.mp4", b"x"))
    with pytest.raises(InputError, match=r"entry .* has a name of 268 bytes; file systems allow 255"):
        unpack(tmp_path)


def test_listing_does_not_follow_links_to_parents(archives: Path) -> None:
    (archives / "sub").mkdir()
    (archives / "sub/a.mp4").write_bytes(b"x")
    for name in ("one", "two"):
        (archives / "sub" / name).symlink_to(archives)
        (archives / name).symlink_to(archives / "sub")
    paths = [path.relative_to(archives).as_posix() for path in listing.list_files(archives)]
    assert paths == ["one/a.mp4", "sub/a.mp4", "two/a.mp4"]


@pytest.mark.parametrize("suffix", ["MP4", "Mov", "webm", "M2TS", "vob", "ogm"])
def test_video_suffixes_match_in_upper_and_lower_case(archives: Path, tmp_path: Path, suffix: str) -> None:
    (archives / f"AbC.000.{suffix}").write_bytes(b"x")
    files = [Path(name) for name in unpack(tmp_path)]
    labelled = f"AbC.000.{suffix.lower()}"
    scores = {score: {labelled: 0.5, f"abc.000.{suffix.lower()}": 0.5} for score in SCORES}
    (tmp_path / "raw/annotations").mkdir()
    (tmp_path / "raw/annotations/annotation_training.pkl").write_bytes(pickle.dumps(scores))
    rows = fiv2.rows(fiv2.Settings(), tmp_path / "raw", files).set_index("clip")["file"]
    assert rows.to_dict() == {labelled: files[0].as_posix(), f"abc.000.{suffix.lower()}": ""}
    (tmp_path / "raw/annotations/clips.csv").write_text(f"clip,warm\n{labelled},3\n")
    settings = table.Settings(path="clips.csv", targets={"warm": [1, 7]})
    assert table.rows(settings, tmp_path / "raw", files)["file"].tolist() == [files[0].as_posix()]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp437"])
def test_unpacker_decodes_zip_names_without_utf8_flag(archives: Path, tmp_path: Path, encoding: str) -> None:
    placeholder = "é".encode(encoding)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("caf" + "#" * len(placeholder) + ".000.mp4", b"x")
    (archives / "a.zip").write_bytes(buffer.getvalue().replace(b"#" * len(placeholder), placeholder))
    assert [Path(name).name for name in unpack(tmp_path)] == ["café.000.mp4"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_different_files_of_one_name_are_rejected(archives: Path, tmp_path: Path) -> None:
    write_zip(archives / "a.zip", ("one/a.000.mp4", b"x"), ("one/a.000.mp4", b"x"))
    assert len(unpack(tmp_path)) == 1
    write_zip(archives / "a.zip", ("one/a.000.mp4", b"x"), ("one/a.000.mp4", b"y"))
    with pytest.raises(InputError, match=r"a\.zip/one/a\.000\.mp4 and .*a\.zip/one/a\.000\.mp4 are different files"):
        unpack(tmp_path)
    (archives / "a.zip").unlink()
    for folder, content in (("training80_01", b"x"), ("training80_02", b"y")):
        (archives / folder).mkdir()
        (archives / folder / "a.000.mp4").write_bytes(content)
    files = [Path(name) for name in unpack(tmp_path)]
    with pytest.raises(
        InputError, match=r"two different files are called a\.000\.mp4: training80_01/.* and training80_02/"
    ):
        fiv2._files_by_name(tmp_path / "raw", files)


SCORE = np.float64(40 / 107)


def read_annotations(folder: Path, scores: object) -> pd.DataFrame:
    (folder / "annotation_training.pkl").write_bytes(scores if isinstance(scores, bytes) else pickle.dumps(scores))
    return fiv2.read(folder / "annotation_training.pkl")


def test_annotations_pickled_by_numpy_1_and_2_are_read(tmp_path: Path) -> None:
    content = pickle.dumps({score: {"a.000.mp4": SCORE} for score in SCORES}, protocol=2)
    assert b"numpy._core.multiarray" in content
    for pickled in (content, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")):
        assert read_annotations(tmp_path, pickled).loc["a.000.mp4"].tolist() == [SCORE] * 6


def test_annotation_keys_of_bytes_and_numbers_become_names(tmp_path: Path) -> None:
    scores = read_annotations(tmp_path, {score.encode(): {b"a.000.mp4": 0.5, 7: 0.25} for score in SCORES})
    assert scores["openness"].to_dict() == {"7": 0.25, "a.000.mp4": 0.5}
    assert fiv2.problem(scores.rename_axis("clip").reset_index().to_dict("records")[0]).startswith("score: ")
    with pytest.raises(InputError, match="two keys with the same text"):
        read_annotations(tmp_path, {score: {b"a.000.mp4": 0.5, "a.000.mp4": 0.25} for score in SCORES})


def test_missing_scores_are_kept_and_invalid_ones_rejected(tmp_path: Path) -> None:
    scores: dict = {score: {"a.000.mp4": 40 / LATTICE[score]} for score in SCORES}
    for missing in ("n/a", "", None, float("nan")):
        scores["openness"]["a.000.mp4"] = missing
        row = read_annotations(tmp_path, scores).rename_axis("clip").reset_index().to_dict("records")[0]
        assert fiv2.problem(row) == "score: openness has no score"
    for invalid in ([0.5, 0.25], "high", {}):
        scores["openness"]["a.000.mp4"] = invalid
        with pytest.raises(InputError, match=r"pkl: openness of a\.000\.mp4 is .*; allowed: a number"):
            read_annotations(tmp_path, scores)


def test_clip_or_file_without_interview_is_usable(tmp_path: Path) -> None:
    scores: dict = {score: {"a.000.mp4": 40 / LATTICE[score], "b.000.mp4": 40 / LATTICE[score]} for score in SCORES}
    scores["interview"]["a.000.mp4"] = None
    for without in (scores, {score: scores[score] for score in fiv2.TRAITS}):
        row = read_annotations(tmp_path, without).rename_axis("clip").reset_index().to_dict("records")[0]
        assert np.isnan(row["interview"])
        assert fiv2.problem(row) == ""


ECCV_HEADER = "VideoName,ValueExtraversion,ValueAgreeableness,ValueConscientiousness,ValueNeurotisicm,ValueOpenness\n"


def test_labels_of_eccv_2016_equal_those_of_pickles(tmp_path: Path) -> None:
    values = {score: 40 / LATTICE[score] for score in SCORES}
    cells = ",".join(str(values[score]) for score in fiv2.ECCV_COLUMNS)
    (tmp_path / "training_gt.csv").write_text(f"{ECCV_HEADER}b.000.mp4,{cells}\na.000.mp4,{cells}\n")
    (tmp_path / "annotation_test.pkl").write_bytes(
        pickle.dumps({score: {"c.000.mp4": value} for score, value in values.items()})
    )
    table = fiv2.read_annotations(tmp_path)
    assert table["split"].to_dict() == {"a.000.mp4": "training", "b.000.mp4": "training", "c.000.mp4": "test"}
    for row in table.rename_axis("clip").reset_index().to_dict("records"):
        assert {name: row[name] for name in fiv2.TRAITS} == {name: values[name] for name in fiv2.TRAITS}
        assert np.isnan(row["interview"]) == (row["split"] == "training")
        assert fiv2.problem(row) == ""


def test_invalid_labels_of_eccv_2016_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "training_gt.csv"
    path.write_text(ECCV_HEADER.replace("Neurotisicm", "Neuroticism") + "a.000.mp4,1,1,1,1,1\n")
    with pytest.raises(
        InputError, match=r"training_gt\.csv has no column 'ValueNeurotisicm'; its columns are VideoName"
    ):
        fiv2.read_eccv(path)
    path.write_text(ECCV_HEADER + "a.000.mp4,1,1,1,1,1\na.000.mp4,1,1,1,1,1\n")
    with pytest.raises(InputError, match="each clip once"):
        fiv2.read_eccv(path)
    path.write_text(ECCV_HEADER + "a.000.mp4,1,high,1,1,1\n")
    with pytest.raises(InputError, match=r"agreeableness of a\.000\.mp4 is 'high'; allowed: a number"):
        fiv2.read_eccv(path)


def test_folders_limit_the_corpus_to_sub_folders_or_splits() -> None:
    files = [
        Path(name)
        for name in ("one/a.mp4", "two/b.mp4", "two/c.mp4", "one/extra.mp4", "two/extra.mp4", "annotations/x.csv")
    ]
    rows = pd.DataFrame(
        {"clip": ["a", "b", "c", "d"], "file": ["one/a.mp4", "two/b.mp4", "two/c.mp4", ""],
         "shard": ["one", "two", "two", "one"], "split": ["training", "training", "test", "training"]}
    )  # fmt: skip

    def select(*folders: str) -> tuple[list[str], list[str]]:
        kept, chosen = _import.select_folders(rows, files, list(folders))
        return [path.as_posix() for path in kept if path.suffix == ".mp4"], chosen["clip"].tolist()

    assert select() == ([path.as_posix() for path in files[:5]], ["a", "b", "c", "d"])
    assert select("one") == (["one/a.mp4", "one/extra.mp4"], ["a"])
    assert select("test") == (["two/c.mp4"], ["c"])
    assert select("one", "test") == (["one/a.mp4", "two/c.mp4", "one/extra.mp4"], ["a", "c"])
    labels = rows.assign(file="")
    assert _import.select_folders(labels, files[5:], ["test"])[1]["clip"].tolist() == ["c"]
    with pytest.raises(SettingError, match=r"download\.folders has 'three'; allowed: .*: one, test, training, two"):
        select("three")


def test_annotations_by_clip_are_rejected_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it is \{clip: \{trait: score\}\}: convert it") as caught:
        read_annotations(tmp_path, {f"{clip}.000.mp4": dict.fromkeys(SCORES, 0.5) for clip in range(6000)})
    assert len(str(caught.value)) < 400
    with pytest.raises(InputError, match=r"it has 0, 1, .* and 5990 more") as caught:
        read_annotations(tmp_path, {str(clip): {} for clip in range(6000)})
    assert len(str(caught.value)) < 400


def test_groups_are_read_as_spreadsheets_write_them(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    names = [f"a.{index:03d}.mp4" for index in range(4)]
    path.write_text("﻿Name;Gender\na.000.mp4 ;2.0\n a.001.mp4;1\na.002.mp4; 2\na.003.mp4;1.0\n;\n", encoding="utf-8")
    assert persons.read_groups([path], names, {})["gender"].tolist() == ["2", "1", "2", "1"]
    for separator, two in (",", "2.0"), (";", "2,0"), ("\t", "2"):  # with row numbers and an empty column
        lines = [["", "clip", "Gender", ""], ["0", names[0], two, ""], ["1", names[1], "1", ""], [""] * 4]
        path.write_text("\r\n".join(map(separator.join, lines)))
        groups = persons.read_groups([path], names[:2], {})
        assert groups.to_dict("list") == {"clip": names[:2], "gender": ["2", "1"]}
    path.write_text("clip,gender\na.000.mp4,1\na.001.mp4,1,5\n")
    with pytest.raises(InputError, match=r"groups\.csv, row 3 has 3 cells; allowed: 2, like the header$"):
        persons.read_groups([path], names, {})
    path.write_text("clip,Gender,gender\na.000.mp4,1,2\n")
    with pytest.raises(InputError, match=r"groups\.csv has the column 'gender' twice"):
        persons.read_groups([path], names, {})
    path.write_text("name,gender\na.000.mp4,1\na.001.mp4,1\nholiday,1\n")
    with pytest.raises(InputError, match=r"groups\.csv, row 4, column 'name': 'holiday'; allowed"):
        persons.read_groups([path], names, {})
