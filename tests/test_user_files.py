"""Archives, names and labels as people have them: none is dropped without a word, and none for an untrue reason."""

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
from lib.core.errors import InputError
from lib.scoring import predictions
from lib.sources import fiv2, listing, persons, table
from lib.sources.archives import Unpacker
from lib.sources.fiv2 import LATTICE, SCORES
from lib.streams import features
from lib.streams.base import Raw

MISSING = ["NA", "null", "nan", "None", "007"]


def unpacked(folder: Path, source: str = "fiv2") -> list[str]:
    place = partial({"fiv2": fiv2.place, "table": table._place}[source], videos=True)
    (folder / "raw").mkdir(exist_ok=True)
    found = Unpacker(folder / "raw", (), "", place).unpack(folder / "archives")
    return sorted(path.as_posix() for path in found)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    (tmp_path / "archives").mkdir()
    return tmp_path / "archives"


def zipped(path: Path, *entries: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries:
            file.writestr(name, content)


def test_a_clip_may_be_called_na(tmp_path: Path) -> None:
    rows = pd.DataFrame({"clip": MISSING, "video": MISSING, "corpus": "NA", "split": "test", "shard": "s", "file": ""})
    rows = rows.assign(seen=False, targets="traits", target="openness", actual=0.5, predicted=0.25, reason="")
    rows.to_csv(tmp_path / "clips.csv", index=False)
    read = read_clip_table(tmp_path / "clips.csv")
    assert read["clip"].tolist() == read["video"].tolist() == MISSING
    labels = read.assign(openness=0.5)
    found = predictions.read(str(tmp_path / "clips.csv"), "traits", ["openness"], labels, MISSING)
    assert found["openness"].to_dict() == dict.fromkeys(MISSING, 0.25)
    rows[["clip", "predicted"]].rename(columns={"predicted": "openness"}).to_csv(tmp_path / "wide.csv", index=False)
    found = predictions.read(str(tmp_path / "wide.csv"), "traits", ["openness"], labels, MISSING)
    assert found["openness"].to_dict() == dict.fromkeys(MISSING, 0.25)
    groups = "clip,hand\n" + "".join(f"{name},left\n" for name in MISSING)
    (tmp_path / "groups.csv").write_text(groups)
    assert (persons.read_groups([tmp_path / "groups.csv"], MISSING, {})["hand"] == "left").all()
    rows[["clip", "actual"]].to_csv(tmp_path / "vectors.csv", index=False)
    for name in MISSING:
        assert features.look_up(Raw(name, None, tmp_path), ["vectors.csv"]).arrays["values"].tolist() == [[0.5]]


def test_a_way_of_packing_that_can_not_be_read_is_no_damage(archives: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("abcdefghijk.000.mp4", b"x" * 50)
    content = bytearray(buffer.getvalue())
    for place in (8, content.index(b"PK\1\2") + 10):
        content[place : place + 2] = struct.pack("<H", 9)  # Deflate64
    (archives / "a.zip").write_bytes(content)
    with pytest.raises(
        InputError, match=r"mp4 uses a compression method that is not supported \(.*deflate64\)\); unpack the"
    ):
        unpacked(tmp_path)


def test_what_mac_os_puts_beside_a_file_is_no_clip(archives: Path, tmp_path: Path) -> None:
    zipped(
        archives / "a.zip",
        ("._a.000.mp4", b"x"),
        ("__MACOSX/b.000.mp4", b"x"),
        (".x/c.000.mp4", b"x"),
        ("d.000.mp4", b"d"),
    )
    (archives / "._e.000.mp4").write_bytes(b"x")
    assert [Path(name).name for name in unpacked(tmp_path)] == ["d.000.mp4"]


def test_a_name_too_long_for_any_disk_is_named(archives: Path, tmp_path: Path) -> None:
    zipped(archives / "a.zip", ("ä" * 130 + ".000.mp4", b"x"))
    with pytest.raises(InputError, match=r"entry .* has a name of 268 bytes; file systems allow 255"):
        unpacked(tmp_path)


def test_links_to_their_own_parents_are_not_followed(archives: Path) -> None:
    (archives / "sub").mkdir()
    (archives / "sub/a.mp4").write_bytes(b"x")
    for name in ("one", "two"):
        (archives / "sub" / name).symlink_to(archives)
        (archives / name).symlink_to(archives / "sub")
    found = [path.relative_to(archives).as_posix() for path in listing.files(archives)]
    assert found == ["one/a.mp4", "sub/a.mp4", "two/a.mp4"]


@pytest.mark.parametrize("suffix", ["MP4", "Mov", "webm", "M2TS", "vob", "ogm"])
def test_the_suffix_may_be_any_in_any_letters(archives: Path, tmp_path: Path, suffix: str) -> None:
    (archives / f"AbC.000.{suffix}").write_bytes(b"x")
    files = [Path(name) for name in unpacked(tmp_path)]
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
def test_names_in_a_zip_that_does_not_say_their_encoding(archives: Path, tmp_path: Path, encoding: str) -> None:
    placeholder = "é".encode(encoding)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("caf" + "#" * len(placeholder) + ".000.mp4", b"x")
    (archives / "a.zip").write_bytes(buffer.getvalue().replace(b"#" * len(placeholder), placeholder))
    assert [Path(name).name for name in unpacked(tmp_path)] == ["café.000.mp4"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_with_two_contents_is_refused_wherever_they_lie(archives: Path, tmp_path: Path) -> None:
    zipped(archives / "a.zip", ("one/a.000.mp4", b"x"), ("one/a.000.mp4", b"x"))
    assert len(unpacked(tmp_path)) == 1
    zipped(archives / "a.zip", ("one/a.000.mp4", b"x"), ("one/a.000.mp4", b"y"))
    with pytest.raises(InputError, match=r"a\.zip/one/a\.000\.mp4 and .*a\.zip/one/a\.000\.mp4 are different files"):
        unpacked(tmp_path)
    (archives / "a.zip").unlink()
    for folder, content in (("training80_01", b"x"), ("training80_02", b"y")):
        (archives / folder).mkdir()
        (archives / folder / "a.000.mp4").write_bytes(content)
    files = [Path(name) for name in unpacked(tmp_path)]
    with pytest.raises(
        InputError, match=r"two different files are called a\.000\.mp4: training80_01/.* and training80_02/"
    ):
        fiv2._files_by_name(tmp_path / "raw", files)


SCORE = np.float64(40 / 107)


def annotations(folder: Path, scores: object) -> pd.DataFrame:
    (folder / "annotation_training.pkl").write_bytes(scores if isinstance(scores, bytes) else pickle.dumps(scores))
    return fiv2.read(folder / "annotation_training.pkl")


def test_pickles_of_both_numpys_are_read(tmp_path: Path) -> None:
    content = pickle.dumps({score: {"a.000.mp4": SCORE} for score in SCORES}, protocol=2)
    assert b"numpy._core.multiarray" in content
    for of in (content, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")):
        assert annotations(tmp_path, of).loc["a.000.mp4"].tolist() == [SCORE] * 6


def test_keys_of_bytes_and_numbers_are_names(tmp_path: Path) -> None:
    read = annotations(tmp_path, {score.encode(): {b"a.000.mp4": 0.5, 7: 0.25} for score in SCORES})
    assert read["openness"].to_dict() == {"7": 0.25, "a.000.mp4": 0.5}
    assert fiv2.problem(read.rename_axis("clip").reset_index().to_dict("records")[0]).startswith("score: ")
    with pytest.raises(InputError, match="two keys that read the same"):
        annotations(tmp_path, {score: {b"a.000.mp4": 0.5, "a.000.mp4": 0.25} for score in SCORES})


def test_a_score_that_is_none_is_none_and_one_that_is_no_number_is_named(tmp_path: Path) -> None:
    scores: dict = {score: {"a.000.mp4": 40 / LATTICE[score]} for score in SCORES}
    for none in ("n/a", "", None, float("nan")):
        scores["openness"]["a.000.mp4"] = none
        row = annotations(tmp_path, scores).rename_axis("clip").reset_index().to_dict("records")[0]
        assert fiv2.problem(row) == "score: openness has no score"
    for wrong in ([0.5, 0.25], "high", {}):
        scores["openness"]["a.000.mp4"] = wrong
        with pytest.raises(InputError, match=r"pkl: openness of a\.000\.mp4 is .*; allowed: a number"):
            annotations(tmp_path, scores)


def test_a_dictionary_turned_round_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it is \{clip: \{trait: score\}\}: convert it") as said:
        annotations(tmp_path, {f"{clip}.000.mp4": dict.fromkeys(SCORES, 0.5) for clip in range(6000)})
    assert len(str(said.value)) < 400
    with pytest.raises(InputError, match=r"it has 0, 1, .* and 5990 more") as said:
        annotations(tmp_path, {str(clip): {} for clip in range(6000)})
    assert len(str(said.value)) < 400


def test_groups_as_spreadsheets_write_them(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    names = [f"a.{index:03d}.mp4" for index in range(4)]
    path.write_text("﻿Name;Gender\na.000.mp4 ;2.0\n a.001.mp4;1\na.002.mp4; 2\na.003.mp4;1.0\n;\n", encoding="utf-8")
    assert persons.read_groups([path], names, {})["gender"].tolist() == ["2", "1", "2", "1"]
    for separator, two in (",", "2.0"), (";", "2,0"), ("\t", "2"):  # with its own numbers of rows, and empty columns
        lines = [["", "clip", "Gender", ""], ["0", names[0], two, ""], ["1", names[1], "1", ""], [""] * 4]
        path.write_text("\r\n".join(map(separator.join, lines)))
        read = persons.read_groups([path], names[:2], {})
        assert read.to_dict("list") == {"clip": names[:2], "gender": ["2", "1"]}
    path.write_text("clip,gender\na.000.mp4,1\na.001.mp4,1,5\n")
    with pytest.raises(InputError, match=r"groups\.csv, row 3 has 3 cells; allowed: 2, like the header$"):
        persons.read_groups([path], names, {})
    path.write_text("clip,Gender,gender\na.000.mp4,1,2\n")
    with pytest.raises(InputError, match=r"groups\.csv has the column 'gender' twice"):
        persons.read_groups([path], names, {})
    path.write_text("name,gender\na.000.mp4,1\na.001.mp4,1\nholiday,1\n")
    with pytest.raises(InputError, match=r"groups\.csv, row 4, column 'name': 'holiday'; allowed"):
        persons.read_groups([path], names, {})
