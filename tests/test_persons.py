"""Files of person groups: FIV2's own files and files of users."""

from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.sources import _persons as persons
from lib.sources import fiv2

CLIPS = ("a.000.mp4", "a.001.mp4", "b.000.mp4")


def read(folder: Path, **files: str) -> list[list[str]]:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    table = persons.read_groups(sorted(folder.iterdir()), CLIPS, fiv2.GROUPS)
    return [list(table), *table.to_numpy().tolist()]


def test_read_groups_joins_fiv2_files_of_several_splits(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        eth_gender_annotations_dev="VideoName;YouTubeID;Ethnicity;Gender\na.000.mp4;a;2;1\na.001.mp4;a;3;1\n",
        eth_gender_annotations_test="VideoName;YouTubeID;Ethnicity;Gender\nb.000.mp4;b;1;2\nz.000.mp4;z;1;2\n",
        age_anno_dev="VideoName,AgeGroup\na.000.mp4,4\n",
        other="no,clips\n1,2\n",
    )
    assert table == [
        ["clip", "agegroup", "ethnicity", "gender"],
        ["a.000.mp4", "4", "Caucasian", "male"],
        ["a.001.mp4", "", "African-American", "male"],
        ["b.000.mp4", "", "Asian", "female"],
    ]


def test_read_groups_finds_the_clip_column_by_name(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("Clip,hand\nholiday,left\n")
    assert persons.read_groups([tmp_path / "groups.csv"], ["holiday"], {}).to_numpy().tolist() == [["holiday", "left"]]


def test_read_groups_without_files_returns_clips_only(tmp_path: Path) -> None:
    assert read(tmp_path) == [["clip"], *([clip] for clip in CLIPS)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"groups": "name,side\nx,left\n"}, "has the columns name, side, none with clips"),
        ({"groups": "clip,side\na.000.mp4,left\na.000.mp4,right\n"}, "has clip a.000.mp4 twice"),
        (
            {"groups_a": "clip,side\na.000.mp4,left\n", "groups_b": "clip,side\na.000.mp4,right\n"},
            "side of a.000.mp4 is 'right', but 'left' in another file",
        ),
        (
            {"groups": "clip,id\n" + "".join(f"v.{index:03d}.mp4,{index}\n" for index in range(30))},
            "column 'id' has 30 values (0, 1, 10, ...); allowed: up to 20 groups",
        ),
        ({"groups": ""}, "has no header"),
    ],
)
def test_read_groups_rejects_invalid_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, **files)
    assert message in str(caught.value)


def test_read_groups_matches_clips_without_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["p01.mp4", "x_p02.mov", "p03.mp4"]
    (tmp_path / "groups.csv").write_text("file;side\np01;left\nx/p02;right\np4;left\np5;left\np6;left\np7;left\n")
    table = persons.read_groups([tmp_path / "groups.csv"], names, {})
    assert table.set_index("clip")["side"].to_dict() == {"p01.mp4": "left", "p03.mp4": "", "x_p02.mov": "right"}
    assert "4 of 6 rows match no clip of the corpus: p4, p5, p6, ..." in capsys.readouterr().out


def test_read_groups_does_not_report_rejected_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "groups.csv").write_text("clip,side\na,left\nb,right\n")
    table = persons.read_groups([tmp_path / "groups.csv"], ["a.mp4"], {}, rejected=["b.mp4"])
    assert table.to_numpy().tolist() == [["a.mp4", "left"]]
    assert capsys.readouterr().out == ""


def test_read_groups_rejects_files_that_match_no_clip(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("clip,side\nk,left\nl,right\n")
    with pytest.raises(InputError, match="2 of 2 rows match no clip of the corpus: k, l; name clips as in"):
        persons.read_groups([tmp_path / "groups.csv"], ["a.mp4"], {})
