"""Sources in the download stage: users' tables, several corpora together, and labels without videos."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dvc.utils.serialize import load_yaml

from lib.core import parameters, resume
from lib.core.clips import SPLITS, column_names, read_clip_table
from lib.core.errors import InputError, SettingError
from lib.core.targets import TRAITS
from lib.sources import base, fiv2, listing, mosei
from lib.sources.demo.head import Performance
from stages import download
from tests.conftest import REAL, ROOT, needs_real_clips
from tests.video_files import write_talking_head
from tools import parameters as written

RunDownload = Callable[..., pd.DataFrame]
OWN_TABLE: dict[str, Any] = {
    "sources": ["table"],
    "table": {"path": "clips.csv", "targets": {"warm": [1, 7], "cold": [1, 7]}},
}
SMALL = {
    "demo": {"clips": 20, "seconds": 2.0, "shared": 0.84, "seed": 0, "emotions": 0.0},
    "demo_emotions": {"clips": 20, "seconds": 2.0, "both": 2, "seed": 1},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three videos of 2.2 s with talking heads."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        write_talking_head(folder / f"{number}.mp4", number, Performance(0.0, 1.0, 0.5, number), 2.2)
    return sorted(folder.iterdir())


@pytest.fixture
def run_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDownload:
    """Runs download in an empty folder with changed parameters, after it has listed data/archives/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resume, "ROOT", tmp_path / "data/.work")  # worker processes stay in an earlier test's folder
    Path("data/archives").mkdir(parents=True)

    def run(**changes: Any) -> pd.DataFrame:
        everything = {"model": {"use": [], "encoders": {}, "targets": []}, "targets": {}}
        values = {"download": load_yaml(ROOT / "params.yaml")["download"] | changes}
        monkeypatch.setattr(parameters, "load", lambda _, model: parameters.check(values, model))
        monkeypatch.setattr(parameters, "load_all", lambda: everything)
        listing.write_list(Path("data/archives"), listing.LISTING, resume.ROOT / resume.CHECKSUMS)
        download.main()
        return read_clip_table(Path("data/clips.csv"), usable_only=False)

    return run


def add_own_clips(videos: list[Path], text: str, *names: str) -> None:
    """Copy the videos to data/archives/ under `names`, and write the table there."""
    for path, name in zip(videos, names, strict=False):
        Path("data/archives", name).parent.mkdir(parents=True, exist_ok=True)
        Path("data/archives", name).write_bytes(path.read_bytes())
    Path("data/archives/clips.csv").write_text(text)


def test_unknown_source_lists_the_allowed_ones(run_download: RunDownload) -> None:
    assert base.list_names() == ["demo", "demo_emotions", "fiv2", "mosei", "table", "vlogs"]
    with pytest.raises(
        InputError, match=r"download\.sources has 'iemocap'; allowed: demo, demo_emotions, fiv2, mosei, table, vlogs"
    ):
        run_download(sources=["iemocap"])


@pytest.mark.slow
def test_own_clips_are_read_with_their_own_targets(run_download: RunDownload, videos: list[Path]) -> None:
    add_own_clips(
        videos,
        "\ufeffFile;split;note;cold;warm\na/one.mov;training;x;2.5;7\ntwo;validation;;;1\n\nthree.000.AVI;test;;4;3\n",
        "a/one.mov", "b/two.mkv",
    )  # fmt: skip
    with zipfile.ZipFile("data/archives/more.zip", "w") as archive:
        archive.write(videos[2], "inner/three.000.AVI")
    table = run_download(**OWN_TABLE)
    assert list(table) == column_names(["warm", "cold"])
    assert table["clip"].tolist() == ["a_one.mov", "three.000.AVI", "two"]
    assert table["video"].tolist() == ["a_one.mov", "three", "two"]
    assert table["split"].tolist() == ["training", "test", "validation"]
    np.testing.assert_array_equal(table[["warm", "cold"]], [[7, 2.5], [3, 4], [1, np.nan]])
    assert set(table["corpus"]) == {"table"}
    assert (table["reason"] == "").all()
    assert table["duration"].tolist() == [2.2] * 3
    for file, shard in zip(table["file"], table["shard"], strict=True):
        assert file.startswith(f"table/{shard.removeprefix('table-')}/")
        assert Path("data/raw", file).stat().st_nlink == 2
    assert Path("data/raw/table/annotations/clips.csv").exists()
    assert json.loads(Path("metrics/data.json").read_text())["clips"] == dict.fromkeys(SPLITS, 1)
    assert list(json.loads(Path("metrics/download.json").read_text())) == ["seconds"]


def test_parquet_table_is_read_like_csv(run_download: RunDownload, videos: list[Path]) -> None:
    add_own_clips(videos, "", *(f"{name}.mp4" for name in "abc"))
    Path("data/archives/clips.csv").unlink()
    columns = {"split": list(SPLITS), "person": [7, 7, 8], "warm": [1, 2.5, None], "cold": [1.25, None, 3]}
    pd.DataFrame({"clip": list("abc"), **columns}).to_parquet("data/archives/clips.parquet")
    table = run_download(**OWN_TABLE | {"table": OWN_TABLE["table"] | {"path": "clips.parquet"}})
    assert table["video"].tolist() == ["7", "7", "8"]
    assert table["split"].tolist() == list(SPLITS)
    np.testing.assert_array_equal(table[["warm", "cold"]], [[1, 1.25], [2.5, np.nan], [np.nan, 3]])


def test_deleted_table_is_not_read_from_the_cache(run_download: RunDownload, videos: list[Path]) -> None:
    add_own_clips(videos, "file,split,warm,cold\na.mp4,test,1,1\n", "a.mp4")
    run_download(**OWN_TABLE)
    Path("data/archives/clips.csv").rename("data/archives/renamed.csv")
    with pytest.raises(InputError, match=r"download\.table\.path = 'clips\.csv'; allowed: a file in data/archives/"):
        run_download(**OWN_TABLE)
    assert [path.name for path in Path("data/.work/download-table/annotations").iterdir()] == ["renamed.csv"]


def test_missing_or_unlisted_files_are_rows_with_a_reason(run_download: RunDownload, videos: list[Path]) -> None:
    add_own_clips(
        videos, "file,split,warm,cold\nx/a.mp4,test,1,1\nb.mp4,test,,\nlost.mp4,test,2,2\n", "x/a.mp4", "b.mp4", "c.mp4"
    )
    table = run_download(**OWN_TABLE, allow_missing=1.0).set_index("clip")
    assert table["reason"].to_dict() == {
        "b.mp4": "target: none is known",
        "c.mp4": "no annotation",
        "lost.mp4": "no file in data/archives",
        "x_a.mp4": "",
    }
    assert table.loc["lost.mp4", "file"] == ""
    with pytest.raises(InputError, match=r"1\}; 'lost\.mp4' matches no file; files without a row: c\.mp4\); download"):
        run_download(**OWN_TABLE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,warm,cold\na,1,1\n", "has the columns name, warm, cold; required: a column called clip or file"),
        ("file,warm\na.mp4,1\n", "no column 'cold', which download.table.targets lists; its columns are"),
        ("file,warm,cold\na.mp4,1,1\n\nb.mp4,high,1\n", "row 4, column 'warm': 'high'; allowed: a number from 1 to 7"),
        ("file,warm,cold\na.mp4,1,7.5\n", "row 2, column 'cold': '7.5'; allowed: a number from 1 to 7"),
        ("file,warm,cold\na.mp4,nan,1\n", "row 2, column 'warm': 'nan'; allowed: a number from 1 to 7"),
        ("file,warm,cold\na.mp4,inf,1\n", "row 2, column 'warm': 'inf'; allowed: a number from 1 to 7"),
        ("file,warm,cold\na.mp4,1,1\nb.mp4,1,1\na.mp4,1,2\n", "row 4, column 'file': 'a.mp4'; allowed: each clip once; "),
        ("clip,warm,cold\na/b,1,1\n", "row 2, column 'clip': 'a/b'; allowed: a name without slashes"),
        ("file,warm,cold\n,1,1\n", "row 2, column 'file': ''; allowed: a name without slashes"),
        ("file,split,warm,cold\na.mp4,train,1,1\n", "row 2, column 'split': 'train'; allowed: training, validation, test"),
        ("file,split,warm,cold\na.mp4,Train,1,1\n", "training, validation, test, or empty; write training"),
        ("file,Warm,cold\na.mp4,1,1\n", "no column 'warm', which download.table.targets lists; its columns"
         " are file, Warm, cold; 'Warm' differs only in case"),
        ("file,warm,warm\na.mp4,1,1\n", "row 1: column 'warm' occurs 2 times; allowed: once"),
        ("file,warm,cold\na.mp4,1\n", "row 2 has 2 cells; allowed: 3, like the header"),
        ("file,warm,cold\nsame,1,1\n", "column 'file': 'same'; allowed: the path of one file; several match: x/same"),
        ("file,warm,cold\na.mp4,1,1\n", "download.split = official, but 1 usable clips have no split"),
        ("file,warm,cold\n", "has no rows below the header"),
        ("", "has no header"),
    ],
)  # fmt: skip
def test_invalid_table_is_rejected_with_row_and_column(
    run_download: RunDownload, videos: list[Path], text: str, message: str
) -> None:
    add_own_clips(videos, text, "a.mp4", "x/same.mp4", "y/same.mp4")
    with pytest.raises(InputError) as caught:
        run_download(**OWN_TABLE, allow_missing=1.0)
    assert message in str(caught.value)
    assert not Path("data/clips.csv").exists()


def test_unreadable_table_and_wrong_settings_are_rejected(run_download: RunDownload, videos: list[Path]) -> None:
    add_own_clips(videos, "")
    Path("data/archives/clips.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(InputError, match=r"clips\.csv is an Excel file or archive"):
        run_download(**OWN_TABLE)
    with pytest.raises(InputError, match=r"download.table.path = 'labels.csv'; allowed: a file in"):
        run_download(**OWN_TABLE | {"table": OWN_TABLE["table"] | {"path": "labels.csv"}})
    with pytest.raises(InputError, match=r"download.table.targets = \{\}; allowed: columns"):
        run_download(**OWN_TABLE | {"table": OWN_TABLE["table"] | {"targets": {}}})
    with pytest.raises(
        InputError, match=r"table\.targets\.warm = \[7\.0, 1\.0\]; allowed: two numbers, the lower first"
    ):
        run_download(**OWN_TABLE | {"table": OWN_TABLE["table"] | {"targets": {"warm": [7, 1]}}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("flow.enabled=false", r"^flow\.enabled = false, but model\.use has flow"),
        ("targets.traits.columns=[joy]", r"^targets\.traits\.columns has 'joy', which no source of download\.sources"),
        ("targets.traits.loss=bce", r"^targets\.traits\.loss = 'bce'; allowed with head = sigmoid: mse, mae"),
        ("targets.traits.head=tanh", r"^targets\.traits\.head = 'tanh'; allowed: sigmoid, linear"),
        ("targets.traits.range=[1, 0]", r"^targets\.traits\.range = \[1\.0, 0\.0\]; allowed: the lower end first"),
    ],
)
def test_download_rejects_settings_that_fail_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: str, message: str
) -> None:
    values = written.plain(written.merge_parameters("demo", [changes]))
    monkeypatch.setattr(parameters, "load", lambda _, model: parameters.check({"download": values["download"]}, model))
    monkeypatch.setattr(parameters, "load_all", lambda: values)
    monkeypatch.setattr(resume, "ROOT", tmp_path / "data/.work")
    with pytest.raises(SettingError, match=message):
        download.main()
    assert not (tmp_path / "data").exists()


def test_two_ranges_of_a_target_are_rejected() -> None:
    changes = ["download.table.targets={lively: [0, 10]}", "targets.own.columns=[lively]", "targets.own.range=[1, 7]"]
    message = r"targets\.own\.range = \[1, 7\], but download\.table\.targets\.lively = \[0, 10\]; allowed: one range"
    with pytest.raises(SettingError, match=message):
        written.check(written.plain(written.merge_parameters("table", changes)))
    changes[2:] = ["targets.own.range=[0, 1]", "download.scale=unit"]
    written.check(written.plain(written.merge_parameters("table", changes)))


@pytest.mark.slow
def test_two_corpora_are_joined_in_one_clip_table(run_download: RunDownload, videos: list[Path]) -> None:
    add_own_clips(
        videos, "file,split,warm,cold\na.mp4,training,1,2\nb.mp4,validation,2,\nc.mp4,test,3,3\n", "a.mp4", "b.mp4"
    )
    Path("data/archives/training80_01").mkdir()
    Path("data/archives/training80_01/c.mp4").write_bytes(videos[2].read_bytes())
    table = run_download(**OWN_TABLE | SMALL | {"sources": ["demo", "table"]})
    assert list(table) == column_names([*TRAITS, "interview", "warm", "cold"])
    assert table["corpus"].value_counts().to_dict() == {"demo": 20, "table": 3}
    shards = table.groupby("corpus")["shard"].agg(set)
    assert not shards["demo"] & shards["table"]
    assert shards["demo"] == {f"demo-{split}80_01" for split in SPLITS}
    assert table.loc[table["corpus"] == "demo", ["warm", "cold"]].isna().all(axis=None)
    assert table.loc[table["corpus"] == "table", list(TRAITS)].isna().all(axis=None)
    assert all(Path("data/raw", file).exists() for file in table["file"])
    summary = json.loads(Path("metrics/data.json").read_text())
    assert summary["sources"] == ["demo", "table"]
    assert {name: counts["usable"] for name, counts in summary["corpora"].items()} == {"demo": 20, "table": 3}
    resplit = run_download(**OWN_TABLE | SMALL | {"sources": ["demo", "table"], "split": "disjoint"})
    assert set(resplit.loc[resplit["corpus"] == "table", "split"]) == set(SPLITS)


@pytest.mark.slow
def test_demo_emotions_is_a_second_corpus_of_segments(run_download: RunDownload) -> None:
    table = run_download(**SMALL | {"sources": ["demo", "demo_emotions"], "min_seconds": 1.9})
    assert (table["reason"] == "").all()
    assert table["corpus"].value_counts().to_dict() == {"demo": 20, "demo_emotions": 20}
    traits, emotions = (table[list(columns)].notna().all(axis=1) for columns in (TRAITS, mosei.EMOTIONS))
    assert (traits | emotions).all()
    assert table.loc[traits & emotions, ["corpus", "split"]].to_numpy().tolist() == [["demo_emotions", "training"]] * 2
    segments = table[table["corpus"] == "demo_emotions"]
    assert set(segments["split"]) == set(SPLITS)
    assert not set(segments["video"]) & set(table.loc[table["corpus"] == "demo", "video"])
    assert len(segments) > segments["file"].nunique() == segments["video"].nunique()  # each video has several segments
    for _, segments_of_video in segments.groupby("video"):
        assert segments_of_video["start"].tolist() == [2.0 * number for number in range(len(segments_of_video))]
        assert (segments_of_video["end"] - segments_of_video["start"] == 2).all()
    warm = segments["sentiment"] / 6 + 0.5  # sentiment depends on `appearance`, as happiness does
    assert ((segments["happiness_present"] > 0) == (warm > 0.5)).mean() > 0.9


@pytest.mark.slow
def test_equal_clip_names_in_two_corpora_are_rejected(run_download: RunDownload, videos: list[Path]) -> None:
    add_own_clips(videos, "file,split,warm,cold\na.mp4,training,1,2\n", "a.mp4")
    name = run_download(**SMALL)["clip"][0]
    add_own_clips(videos, f"file,split,warm,cold\n{name},training,1,2\n", name)
    with pytest.raises(InputError, match=f"clip {name} is in the corpora demo and table; rename it"):
        run_download(**OWN_TABLE | SMALL | {"sources": ["demo", "table"]})


@needs_real_clips
def test_real_labels_are_read_without_videos(run_download: RunDownload) -> None:
    for path in (*REAL.glob("*.pkl"), *REAL.glob("*.csv"), *REAL.glob("*.mp4")):
        Path("data/archives", path.name).symlink_to(path)
    table = run_download(sources=["fiv2"], videos=False)
    assert (table["reason"] == "").all()
    assert table["split"].value_counts().to_dict() == {"training": 6000, "validation": 2000}
    assert (table["file"] == "").all()
    assert table["duration"].isna().all()
    assert table["shard"].nunique() == 64
    assert table["shard"].str.fullmatch(r"fiv2-clips_\d\d").all()
    assert table.loc[table["split"] == "training", "extraversion"].mean() == pytest.approx(0.4761, abs=5e-5)
    assert not list(Path("data/raw").rglob("*.mp4"))
    assert {path.suffix for path in Path("data/raw/fiv2/annotations").iterdir()} == {".pkl", ".csv"}
    assert set(json.loads(Path("metrics/data.json").read_text())["annotation_files"].values()) == {"as distributed"}


def write_fiv2_annotations(clips: dict[str, int]) -> None:
    """Write annotation_SPLIT.pkl for each split with a number of clips, each of its own video, to data/archives/."""
    for split, count in clips.items():
        names = [f"{split}{number:03d}.000.mp4" for number in range(count)]
        scores = {
            name: {clip: (7 * index % 40) / fiv2.LATTICE[name] for index, clip in enumerate(names)}
            for name in fiv2.SCORES
        }
        Path(f"data/archives/annotation_{split}.pkl").write_bytes(pickle.dumps(scores, protocol=2))


@pytest.mark.parametrize("name", ["fiv2_features", "fiv2_stack", "fiv2_text"])
def test_split_reports_the_scored_split_of_fiv2(
    run_download: RunDownload, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(written, "FOLDER", ROOT / written.FOLDER)
    write_fiv2_annotations({"training": 60, "validation": 20, "test": 10})
    shipped = written.plain(written.merge_parameters(name, []))["download"]
    table = run_download(**shipped)
    assert (table["split"] == "").sum() == 10
    printed = capsys.readouterr().out
    assert "  test: 20 clips of fiv2's validation split\n" in printed
    assert (
        "10 usable clips are in no split (10 clips of fiv2's test split; test000.000.mp4, test001.000.mp4,"
        " test002.000.mp4, ...): no model is trained or scored on them. They have an empty split in data/clips.csv."
        " To score the corpus' test split, set download.split to official\n"
    ) in printed
    data = json.loads(Path("metrics/data.json").read_text())
    assert data["origins"]["test"] == {"fiv2": {"validation": 20}}
    assert data["left_out"]["clips"] == 10
    official = written.plain(written.merge_parameters(name, ["download.split=official"]))["download"]
    table = run_download(**official)
    assert table["split"].value_counts().to_dict() == {"training": 60, "validation": 20, "test": 10}
    printed = capsys.readouterr().out
    assert "  test: 10 clips of fiv2's test split\n" in printed
    assert "in no split" not in printed
    assert "left_out" not in json.loads(Path("metrics/data.json").read_text())


def test_paths_of_another_machine_match_by_their_last_parts(
    run_download: RunDownload, videos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "file;split;warm;cold\nC:\\Users\\me\\Videos\\one.mp4;training;2,5;1\n/home/x/b/two.mp4;test;1;7,0\n"
        "/home/x/c/two.mp4;validation;1;1\n~/lost.mp4;test;1;1\n"
    )
    add_own_clips(videos, text, "one.mp4", "b/two.mp4", "c/two.mp4")
    table = run_download(**OWN_TABLE, allow_missing=1.0).set_index("clip")
    assert table["file"].map(lambda file: Path(file).name).to_dict() == {
        "b_two.mp4": "two.mp4",
        "c_two.mp4": "two.mp4",
        "lost.mp4": "",
        "one.mp4": "one.mp4",
    }
    assert table.loc["one.mp4", "warm"] == 2.5
    assert table.loc["b_two.mp4", "cold"] == 7
    assert table.loc["lost.mp4", "reason"] == "no file in data/archives"
    assert (
        "3 paths of another machine, matched by their last parts: C:\\Users\\me\\Videos\\one.mp4"
        in capsys.readouterr().out
    )
