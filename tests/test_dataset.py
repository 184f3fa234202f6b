"""From shards to samples: which clips can be used, and which of their steps are taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from lib.core import shards
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data.batch import collate, stack
from lib.data.dataset import (
    ClipDataset,
    EncoderInputs,
    count_lost,
    list_streams,
    make_inputs,
    mask_labelled,
    scale_labels,
    select_usable,
    select_videos,
)
from lib.streams.base import StreamInfo

TABLE = pd.DataFrame({"clip": ["a", "b", "c"], "shard": ["one", "one", "two"]})
SHAPES = {"faces": StreamInfo({}, {"": [3, 4, 4]}), "flow": StreamInfo({}, {"": [2, 4, 4]}),
          "audio": StreamInfo({}, {"log_mel": [2], "mfcc": [1]})}  # fmt: skip


def make_settings(*reads: str, take: Any = "all", steps: int = 1) -> EncoderInputs:
    return EncoderInputs(kind="", reads=list(reads), take=take, steps=steps)


FACES, FLOW, AUDIO = make_settings("faces"), make_settings("flow"), make_settings("audio.log_mel")


def clip(stream: str, name: str = "a", length: int = 10) -> Record:
    """A clip of which each step's values are its number: five pictures, four flows, a hundred windows of sound a second."""
    numbers = np.arange(length)
    if stream == "faces":
        pictures = np.broadcast_to(numbers[:, None, None, None], (length, 4, 4, 3)).astype(np.uint8)
        return Record(name, {"faces": pictures, "found": np.full(length, 2, np.uint8), "times": numbers / 5})
    if stream == "flow":
        moved = np.broadcast_to(numbers[:, None, None, None], (length, 4, 4, 2)).astype(np.int8)
        return Record(name, {"flow": moved, "times": numbers / 4}, {"scale": 0.5})
    values = numbers.astype(np.float32)[:, None]
    return Record(name, {"log_mel": np.repeat(values, 2, 1), "mfcc": -values, "times": 0.01 * numbers + 0.0125})


def write(data: Path, stream: str, clips: Mapping[str, list[str]], refused: str = "", length: int = 10) -> None:
    (data / stream).mkdir(parents=True)
    for shard, names in clips.items():
        with h5py.File(data / stream / f"{shard}.h5", "w", libver="latest") as file:
            for name in names:
                record = Record(name, refused="why") if name in refused else clip(stream, name, length)
                shards.write_record(file, record)


WHOLE = {"one": ["a", "b"], "two": ["c"]}


def test_a_clip_is_usable_if_no_stream_has_refused_it(tmp_path: Path) -> None:
    write(tmp_path, "faces", WHOLE, refused="c")
    write(tmp_path, "flow", WHOLE, refused="bc")
    write(tmp_path, "audio", WHOLE, refused="a")

    def of(missing: Any, **encoder_inputs: EncoderInputs) -> list[str]:
        return select_usable(TABLE, tmp_path, encoder_inputs, missing)["clip"].tolist()

    assert of("drop", faces=FACES) == ["a", "b"]
    assert of("drop", faces=FACES, flow=FLOW) == ["a"]
    assert of("drop", faces=FACES, audio=AUDIO) == ["b"]
    assert of("keep", faces=FACES, flow=FLOW) == ["a", "b"]
    assert of("keep", flow=FLOW, audio=AUDIO) == ["a", "b", "c"]
    assert of("keep", both=make_settings("flow", "audio.mfcc"), faces=FACES) == ["a", "b"]
    assert of("keep", both=make_settings("flow", "audio.mfcc")) == []  # an encoder needs all that it reads


def test_a_lost_clip_counts_once_where_it_was_lost_first(tmp_path: Path) -> None:
    write(tmp_path, "faces", WHOLE, refused="c")
    write(tmp_path, "flow", WHOLE, refused="bc")
    write(tmp_path, "audio", WHOLE)
    encoder_inputs = {"faces": FACES, "flow": FLOW, "audio": AUDIO}
    table = TABLE.assign(split=["training", "test", "test"])
    rows = count_lost(table, select_usable(table, tmp_path, encoder_inputs, "drop")["clip"], tmp_path, encoder_inputs)
    assert rows.to_numpy().tolist() == [["faces", "why", "test", 1], ["flow", "why", "test", 1], ["audio", "", "", 0]]
    assert count_lost(table, ["a", "b", "c"], tmp_path, encoder_inputs)["clips"].tolist() == [0, 0, 0]


def test_what_shards_lack_is_named(tmp_path: Path) -> None:
    write(tmp_path, "faces", {"one": ["a", "b"]})
    write(tmp_path, "flow", {"one": ["b"], "two": ["c"]})
    with pytest.raises(InputError, match=r"faces/two\.h5 is missing; run `dvc repro faces`"):
        select_usable(TABLE, tmp_path, {"faces": FACES}, "drop")
    with pytest.raises(InputError, match=r"flow/one\.h5 lacks a \(1 in all\); run `dvc repro flow`"):
        select_usable(TABLE, tmp_path, {"flow": FLOW}, "keep")


def taken(
    settings: EncoderInputs, seed: list[int] | None = None, length: int = 10, **records: Record
) -> dict[str, Any]:
    return make_inputs({"faces": clip("faces", length=length)} | records, {"one": settings}, SHAPES, seed)["one"]


def picked(settings: EncoderInputs, seed: list[int] | None = None, length: int = 10) -> list[int]:
    read = taken(settings, seed, length)["faces"]
    assert read.present.all()
    assert read.times == pytest.approx(read.values[:, 0, 0, 0] / 5)
    assert read.values.shape[1:] == (3, 4, 4)
    return read.values[:, 0, 0, 0].tolist()


def test_parts_windows_and_all_of_a_clips_steps() -> None:
    parts, window, every = (make_settings("faces", take=take, steps=4) for take in ("parts", "window", "all"))
    assert picked(parts) == [1, 3, 6, 8]  # the middles of four quarters of ten
    assert picked(window) == [3, 4, 5, 6]
    assert picked(every) == list(range(10))
    assert picked(parts, length=2) == [0, 0, 1, 1]
    assert picked(window, length=2) == [0, 1]
    drawn = [picked(parts, [0, epoch, 0]) for epoch in range(200)]
    assert drawn[7] == picked(parts, [0, 7, 0])
    assert {tuple(one) for one in drawn} > {(0, 2, 5, 7)}
    for part, least, most in ((0, 0, 2), (1, 2, 4), (2, 5, 7), (3, 7, 9)):
        assert {one[part] for one in drawn} == set(range(least, most + 1))
    starts = {picked(window, [0, epoch, 0])[0] for epoch in range(200)}
    assert starts == set(range(7))
    assert all(np.diff(picked(window, [0, epoch, 0])).tolist() == [1, 1, 1] for epoch in range(20))
    assert picked(every, [0, 1, 2]) == list(range(10))


def test_steps_in_which_nothing_was_found_are_never_taken() -> None:
    found = np.array([0, 2, 1, 0, 0, 2, 0, 2, 0, 0], np.uint8)
    record = clip("faces")
    faces = Record("a", {**record.arrays, "found": found})
    for take in ("parts", "window", "all"):
        for seed in (None, [1, 2, 3]):
            read = taken(make_settings("faces", take=take, steps=3), seed, faces=faces)["faces"]
            assert set(read.values[:, 0, 0, 0]) <= {1, 2, 5, 7}
            assert read.times == pytest.approx(read.values[:, 0, 0, 0] / 5)


@pytest.mark.parametrize("seed", [None, [5, 0, 1]])
def test_several_streams_are_read_at_the_steps_of_the_first(seed: list[int] | None) -> None:
    streams = {"audio": clip("audio", length=195), "flow": clip("flow", length=7)}
    read = taken(make_settings("faces", "flow", "audio.mfcc", take="parts", steps=4), seed, **streams)
    assert list(read) == ["faces", "flow", "audio.mfcc"]
    clock = read["faces"].times
    assert all((one.times == clock).all() for one in read.values())
    flow = read["flow"].values[:, 0, 0, 0] / 0.5 / 4  # its own seconds
    assert np.abs(flow - np.minimum(clock, 1.5)).max() <= 0.125 + 1e-6
    windows = -read["audio.mfcc"].values[:, 0] * 0.01 + 0.0125
    assert np.abs(windows - clock)[clock > 0.0125].max() <= 0.005 + 1e-6
    swapped = taken(make_settings("audio.log_mel", "faces"), seed, **streams)
    assert len(swapped["faces"].times) == 195
    assert swapped["faces"].values[:, 0, 0, 0].tolist() == [
        min(9, round(5 * (0.01 * at + 0.0125))) for at in range(195)
    ]


def test_an_encoder_of_which_a_stream_was_refused_gets_no_step() -> None:
    streams = {"audio": Record("a", refused="audio: has no sound")}
    read = taken(make_settings("faces", "audio.mfcc", take="parts", steps=4), **streams)
    assert read["faces"].values.shape == (0, 3, 4, 4)
    assert read["faces"].values.dtype == np.uint8
    assert read["audio.mfcc"].values.shape == (0, 1)
    assert len(read["audio.mfcc"].times) == len(read["faces"].present) == 0


TARGETS = {
    "near": TargetGroup(columns=["calm", "warm"], range=[1, 7], head="linear", loss="mse", weight=1.0),
    "far": TargetGroup(columns=["age"], range=[0, 100], head="linear", loss="mse", weight=1.0),
}
RATED = TABLE.assign(calm=[1, 4, np.nan], warm=[7, 2.5, np.nan], age=[np.nan, 20, 50], corpus="x")


def test_labels_are_in_units_of_their_range_and_unknown_where_unrated() -> None:
    found = scale_labels(RATED, TARGETS)
    assert found["near"] == pytest.approx(np.array([[0, 1], [0.5, 0.25], [np.nan, np.nan]]), nan_ok=True)
    assert found["far"] == pytest.approx(np.array([[np.nan], [0.2], [0.5]]), nan_ok=True)
    with pytest.raises(InputError, match=r"targets\.near\.range = \[1\.0, 7\.0\], but warm of clip b is 7\.5"):
        scale_labels(RATED.assign(warm=[7, 7.5, 0]), TARGETS)
    with pytest.raises(InputError, match=r"targets\.far\.columns has 'age', which data/clips\.csv lacks"):
        scale_labels(RATED.drop(columns="age"), TARGETS)


def test_fewer_training_clips_are_whole_videos_among_more() -> None:
    videos = [f"v{index % 40}" for index in range(100)]
    table = pd.DataFrame({"clip": [f"c{index}" for index in range(100)], "video": videos})
    found = {clips: select_videos(table, clips, 0) for clips in (10, 25, 60, 100)}
    for clips, rows in found.items():
        assert clips - 3 < len(rows) <= clips
        assert not set(rows["video"]) & set(table["video"][~table["clip"].isin(rows["clip"])])
    for fewer, more in ((10, 25), (25, 60), (60, 100)):
        assert set(found[fewer]["clip"]) < set(found[more]["clip"])
    assert select_videos(table, None, 0) is table
    assert set(select_videos(table, 25, 1)["clip"]) != set(found[25]["clip"])
    assert set(select_videos(table[::-1], 25, 0)["clip"]) == set(found[25]["clip"])
    with pytest.raises(InputError, match=r"train\.clips = 101; allowed: null, or up to 100"):
        select_videos(table, 101, 0)
    with pytest.raises(InputError, match=r"train\.clips = 1; allowed with train\.seed = 0: from [23] on"):
        select_videos(table, 1, 0)


def test_a_clip_is_labelled_if_it_knows_one_target_of_one_group() -> None:
    groups = {
        name: TargetGroup(columns=columns, range=[0, 1], head="sigmoid", loss="mse", weight=1)
        for name, columns in (("both", ["a", "b"]), ("one", ["c"]))
    }
    nan = float("nan")
    table = pd.DataFrame({"clip": list("wxyz"), "a": [0.5, nan, nan, nan], "b": nan, "c": [nan, 0.5, nan, 0.5]})
    assert mask_labelled(table, groups).tolist() == [True, True, False, True]


def test_a_batch_is_padded_and_says_where(tmp_path: Path) -> None:
    write(tmp_path, "faces", WHOLE, refused="b")
    write(tmp_path, "flow", {"one": ["a", "b"]}, length=3)
    write(tmp_path / "longer", "flow", {"two": ["c"]}, length=8)
    (tmp_path / "longer/flow/two.h5").rename(tmp_path / "flow/two.h5")
    encoder_inputs = {"faces": make_settings("faces", take="parts", steps=2), "flow": FLOW}
    data = ClipDataset(RATED, tmp_path, encoder_inputs, SHAPES, TARGETS)
    batch = collate([data[index] for index in range(3)])
    faces, flow = batch.inputs["faces"]["faces"], batch.inputs["flow"]["flow"]
    assert faces.present.tolist() == [[True, True], [False, False], [True, True]]
    assert faces.values.shape == (3, 2, 3, 4, 4)
    assert faces.values[0, :, 0, 0, 0].tolist() == pytest.approx([2 / 255, 7 / 255])  # pictures in [0, 1]
    assert not faces.values[1].any()
    assert flow.present.sum(1).tolist() == [3, 3, 8]
    assert flow.values[0, :, 0, 0, 0].tolist() == [0, 0.5, 1, 0, 0, 0, 0, 0]
    assert batch.targets["near"][1].tolist() == [0.5, 0.25]
    assert batch.targets["near"][2].isnan().all()
    assert batch.index.tolist() == [0, 1, 2]


def test_steps_are_drawn_anew_each_epoch_and_alike_by_all_encoders(tmp_path: Path) -> None:
    write(tmp_path, "faces", WHOLE)
    encoder_inputs = {name: make_settings("faces", take="parts", steps=4) for name in ("faces", "again")}
    data = ClipDataset(RATED, tmp_path, encoder_inputs, SHAPES, {}, seed=3)
    seen = set()
    for epoch in range(20):
        data.epoch = epoch
        inputs = data[0].inputs
        assert (inputs["faces"]["faces"].times == inputs["again"]["faces"].times).all()
        seen.add(tuple(inputs["faces"]["faces"].times))
    assert len(seen) > 10
    calm = ClipDataset(RATED, tmp_path, encoder_inputs, SHAPES, {})
    assert (calm[0].inputs["faces"]["faces"].times == calm[0].inputs["faces"]["faces"].times).all()
    assert list_streams(encoder_inputs | {"sound": make_settings("audio.mfcc", "audio.log_mel")}) == ["faces", "audio"]


def test_small_samples_are_read_once_and_large_or_drawn_ones_anew(tmp_path: Path) -> None:
    write(tmp_path, "audio", WHOLE)
    write(tmp_path, "flow", WHOLE, length=600)
    parts = make_settings("audio.mfcc", take="parts", steps=3)
    small = ClipDataset(RATED, tmp_path, {"audio": AUDIO}, SHAPES, TARGETS, seed=3)
    large = ClipDataset(RATED, tmp_path, {"flow": FLOW}, SHAPES, TARGETS)
    drawn = ClipDataset(RATED, tmp_path, {"audio": parts}, SHAPES, TARGETS, seed=3)
    first = small[1]
    small.epoch = 1
    assert small[1] is first
    again = ClipDataset(RATED, tmp_path, {"audio": AUDIO}, SHAPES, TARGETS)[1]
    for kept, read in zip(first.inputs["audio"]["audio.log_mel"], again.inputs["audio"]["audio.log_mel"], strict=True):
        assert (kept == read).all()
    assert first.targets["near"].tolist() == [0.5, 0.25]
    assert (small[0].index, small[2].index) == (0, 2)
    assert large[0] is not large[0]
    assert drawn[0] is not drawn[0]


def test_steps_of_other_shapes_are_not_stacked() -> None:
    clips = [taken(make_settings("faces"), faces=clip("faces"))["faces"] for _ in range(2)]
    clips[1] = clips[1]._replace(values=clips[1].values[..., :3])
    with pytest.raises(InputError, match=r"steps of faces differ in shape .*: \(3, 4, 3\), \(3, 4, 4\)"):
        stack("faces", clips)
