"""CMU-MOSEI's labels: fractions of emotions, folds, segments, and messages about invalid files."""

from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from lib.core.clips import NO_FILE
from lib.core.errors import InputError
from lib.core.parameters import check
from lib.sources import _check as checks
from lib.sources import mosei
from lib.sources._check import Corpus
from lib.streams import audio, build, frames
from tests.conftest import ROOT
from tests.video_files import Track, make_tone, read_time, timed_frames, write_video_file

LABELS = ROOT.parent / "shared" / "mosei" / "labels.csv"
HEADER = "video,segment,start,end,split,sentiment,happy,sad,anger,surprise,disgust,fear\n"
SETTINGS = check({"labels": "labels.csv"}, mosei.Settings)


def read_labels(folder: Path, text: str, *files: str) -> pd.DataFrame:
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations/labels.csv").write_text(text)
    return mosei.rows(SETTINGS, folder, [Path(file) for file in files])


def test_emotion_intensities_become_fractions_or_neutral(tmp_path: Path) -> None:
    text = HEADER + "-a_b,0,1.5,4,train,-1,2,0,1,0,0,1\n-a_b,1,4,6.25,,0,0,0,0,0,0,0\nc,7,0,3,valid,3,0,0,0,0.5,0,0\n"
    table = read_labels(tmp_path, text, "clips_03/-a_b_0.mp4", "clips_03/other.mp4").set_index("clip")
    assert table.index.tolist() == ["-a_b_0.mp4", "-a_b_1.mp4", "c_7.mp4"]
    assert table["video"].tolist() == ["-a_b", "-a_b", "c"]
    assert table["split"].tolist() == ["training", "", "validation"]
    assert table["file"].tolist() == ["clips_03/-a_b_0.mp4", "", ""]
    emotions = ["neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise"]
    assert table[emotions].to_numpy().tolist() == [
        [0, 0.25, 0, 0.25, 0.5, 0, 0], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1],
    ]  # fmt: skip
    assert table["sentiment"].tolist() == [-1, 0, 3]
    intensities = ["anger_intensity", "fear_intensity", "happiness_intensity", "surprise_intensity"]
    assert table[intensities].to_numpy().tolist() == [[1, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0.5]]
    assert set(mosei.columns(SETTINGS)) <= {*table}
    assert [mosei.problem(row) for row in table.to_dict("records")] == ["", "split: in no fold", ""]


@pytest.mark.slow
def test_segments_become_clips_with_start_and_end(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video_file(tmp_path / "videos/a.mp4", Track(timed_frames(90), options={"g": "30"}), Track(make_tone(6)))
    write_video_file(tmp_path / "videos/a_3.mp4", Track(timed_frames(30, begin=1)), Track(make_tone(2)))
    segments = ((0, -0.5, 2), (1, 2, 4.5), (2, 5, 9), (3, 0, 2), (4, 7, 9), (5, 4.5, 4.9))
    text = HEADER + "".join(f"a,{number},{start},{end},train,0,1,0,0,0,0,0\n" for number, start, end in segments)
    files = [Path("videos/a.mp4"), Path("videos/a_3.mp4")]
    rows = read_labels(tmp_path, text, *map(str, files))
    assert rows["file"].tolist() == ["videos/a.mp4"] * 3 + ["videos/a_3.mp4"] + ["videos/a.mp4"] * 2
    assert rows["start"].fillna(-1).tolist() == [0, 2, 5, -1, 7, 4.5]
    table = checks.build_clip_table([Corpus("mosei", cast(Any, mosei), tmp_path, files, rows)], True, 1.0, 5)
    assert table["reason"].tolist() == [
        "", "", "file: ends at 9.0 s, its video at 5.9 s", "", "file: begins at 7.0 s, after the end of its video",
        "too short: 0.40 s, download.min_seconds is 1.0",
    ]  # fmt: skip
    assert table["duration"].round(1).tolist()[:2] == [2.0, 2.5]
    assert table["sha256"].nunique() == 2
    table["file"] = table["file"].str.removeprefix("mosei/")
    raw = [
        raw_clip._replace(path=tmp_path / row.file)
        for raw_clip, row in zip(build._raw_clips(table), table.itertuples(), strict=True)
    ]
    assert [raw_clip.span for raw_clip in raw[:4]] == [(0, 2), (2, 4.5), (5, 9), None]
    records = [frames.sample_frames(raw_clip, 5, 160, 95) for raw_clip in raw[:2]]
    assert [len(record.arrays["times"]) for record in records] == [10, 13]
    assert read_time(frames.decode_all_frames(records[1])[3]) == pytest.approx(2.6, abs=0.1)
    settings = audio.Settings(
        enabled=True, sample_rate=16_000, filter_rate=None, window=0.025, step=0.01, mels=64, mfcc=24, edges="inside",
        top_db=None,
    )  # fmt: skip
    features = audio.compute_features(raw[1], settings)
    assert features.arrays["times"][[0, -1]] == pytest.approx([0.0125, 2.4875], abs=0.01)
    identifying = build._identifying(table), build._identifying(table[table["start"].isna()])
    assert identifying == (["clip", "sha256", "start", "end"], ["clip", "sha256"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,0,-2,0,train,0,1,0,0,0,0,0", r"row 2, column 'end': '0'; allowed: more than the start, -2, and 0"),
        ("a,0,1,2,train,0,3.5,0,0,0,0,0", r"row 2, column 'happy': '3\.5'; allowed: a number from 0 to 3"),
        ("a,0,2,1,train,0,1,0,0,0,0,0", r"row 2, column 'end': '1'; allowed: more than the start, 2"),
        (
            "a,0,1,2,dev,0,1,0,0,0,0,0",
            r"row 2, column 'split': 'dev'; allowed: training, train, validation, valid, test",
        ),
        ("a,0,1,2,train,x,1,0,0,0,0,0", r"row 2, column 'sentiment': 'x'; allowed: a number from -3 to 3"),
        ("a,0,1,2,train,0,1,0,0,0,0,0\na,0,3,4,train,0,1,0,0,0,0,0", r"row 3, column 'segment': '0'; allowed: each"),
    ],
)
def test_invalid_labels_are_rejected_with_row_and_column(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path, HEADER + row + "\n")


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no column 'fear'; its columns are video, segment"):
        read_labels(tmp_path, HEADER.replace("fear", "dread") + "a,0,1,2,train,0,1,0,0,0,0,0\n")
    with pytest.raises(InputError, match=r"download\.mosei\.labels = 'labels\.csv'; allowed: a file in"):
        mosei.rows(SETTINGS, tmp_path / "nowhere", [])


def test_columns_in_other_order_and_case_are_read(tmp_path: Path) -> None:
    rows = [("a", 0, 0, 2, "train", -1, 2, 0, 1, 0, 0, 1), ("b", 3, 1.5, 4, "test", 0.5, 0, 0.5, 0, 0, 3, 0)]
    table = pd.DataFrame(rows, columns=HEADER.strip().split(","))
    expected = read_labels(tmp_path, table.to_csv(index=False))
    other = table[table.columns[::-1]].assign(text="well, um", annotator=7, split=table["split"].str.upper())
    for written in (other, other.rename(columns=str.upper), other.rename(columns=str.title)):
        pd.testing.assert_frame_equal(read_labels(tmp_path, written.to_csv(index=False)), expected)
        pd.testing.assert_frame_equal(read_labels(tmp_path, written.to_csv(sep=";", index=False)), expected)


@pytest.mark.skipif(not LABELS.is_file(), reason="the real labels are not here")
@pytest.mark.slow
def test_each_real_segment_is_a_row_with_its_reason(tmp_path: Path) -> None:
    table = read_labels(tmp_path, LABELS.read_text())
    assert len(table) == 23_259
    assert table["split"].value_counts().to_dict() == {"training": 16_327, "test": 4662, "validation": 1871, "": 399}
    emotions = ["neutral", *mosei.EMOTIONS]
    assert table[emotions].sum(axis=1).to_numpy() == pytest.approx(1)
    assert (table["neutral"] == 1).mean() == pytest.approx(0.15, abs=0.005)
    assert (table["happiness"] > 0).mean() == pytest.approx(0.54, abs=0.005)
    corpus = Corpus("mosei", mosei, tmp_path, [Path("annotations/labels.csv")], table)  # type: ignore[arg-type]
    clip_table = checks.build_clip_table([corpus], videos=True, min_seconds=1, min_frames=10)
    assert set(clip_table["reason"]) == {NO_FILE}
    without = checks.build_clip_table([corpus], videos=False, min_seconds=1, min_frames=10)
    assert without["reason"].value_counts().to_dict() == {"": 22_860, "split: in no fold": 399}
