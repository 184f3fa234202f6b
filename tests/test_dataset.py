"""From shards to samples: usable clips, their steps and labels, and batches."""

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
from lib.data.dataset import ClipDataset, make_inputs, scale_labels
from lib.data.inputs import EncoderSettings, list_streams
from lib.data.lengths import measure_lengths
from lib.data.selection import count_lost, mask_labelled, select_usable, select_videos
from lib.report.lengths import tabulate_lengths
from lib.streams.base import StreamInfo

TABLE = pd.DataFrame({"clip": ["a", "b", "c"], "shard": ["one", "one", "two"]})
SHAPES = {"faces": StreamInfo({}, {"": [3, 4, 4]}), "flow": StreamInfo({}, {"": [2, 4, 4]}),
          "audio": StreamInfo({}, {"log_mel": [2], "mfcc": [1]})}  # fmt: skip


def make_settings(*reads: str, take: Any = "all", steps: int = 1) -> EncoderSettings:
    return EncoderSettings(kind="", reads=list(reads), take=take, steps=steps)


FACES, FLOW, AUDIO = make_settings("faces"), make_settings("flow"), make_settings("audio.log_mel")


def make_record(stream: str, name: str = "a", length: int = 10) -> Record:
    """A clip whose values at each step are the step's number: per second 5 faces, 4 flow fields or 100 audio windows."""
    numbers = np.arange(length)
    if stream == "faces":
        images = np.broadcast_to(numbers[:, None, None, None], (length, 4, 4, 3)).astype(np.uint8)
        return Record(name, {"faces": images, "found": np.full(length, 2, np.uint8), "times": numbers / 5})
    if stream == "flow":
        motion = np.broadcast_to(numbers[:, None, None, None], (length, 4, 4, 2)).astype(np.int8)
        return Record(name, {"flow": motion, "times": numbers / 4}, {"scale": 0.5})
    values = numbers.astype(np.float32)[:, None]
    return Record(name, {"log_mel": np.repeat(values, 2, 1), "mfcc": -values, "times": 0.01 * numbers + 0.0125})


def write_shards(data: Path, stream: str, clips: Mapping[str, list[str]], rejected: str = "", length: int = 10) -> None:
    (data / stream).mkdir(parents=True)
    for shard, names in clips.items():
        with h5py.File(data / stream / f"{shard}.h5", "w", libver="latest") as file:
            for name in names:
                record = Record(name, rejected="why") if name in rejected else make_record(stream, name, length)
                shards.write_record(file, record)


ALL_CLIPS = {"one": ["a", "b"], "two": ["c"]}


def test_select_usable_skips_clips_with_rejected_streams(tmp_path: Path) -> None:
    write_shards(tmp_path, "faces", ALL_CLIPS, rejected="c")
    write_shards(tmp_path, "flow", ALL_CLIPS, rejected="bc")
    write_shards(tmp_path, "audio", ALL_CLIPS, rejected="a")

    def usable_clips(missing: Any, **settings_by_encoder: EncoderSettings) -> list[str]:
        return select_usable(TABLE, tmp_path, settings_by_encoder, missing)["clip"].tolist()

    assert usable_clips("drop", faces=FACES) == ["a", "b"]
    assert usable_clips("drop", faces=FACES, flow=FLOW) == ["a"]
    assert usable_clips("drop", faces=FACES, audio=AUDIO) == ["b"]
    assert usable_clips("keep", faces=FACES, flow=FLOW) == ["a", "b"]
    assert usable_clips("keep", flow=FLOW, audio=AUDIO) == ["a", "b", "c"]
    assert usable_clips("keep", both=make_settings("flow", "audio.mfcc"), faces=FACES) == ["a", "b"]
    assert (
        usable_clips("keep", both=make_settings("flow", "audio.mfcc")) == []
    )  # an encoder needs all streams that it reads


def test_count_lost_counts_a_clip_at_its_first_rejection(tmp_path: Path) -> None:
    write_shards(tmp_path, "faces", ALL_CLIPS, rejected="c")
    write_shards(tmp_path, "flow", ALL_CLIPS, rejected="bc")
    write_shards(tmp_path, "audio", ALL_CLIPS)
    settings_by_encoder = {"faces": FACES, "flow": FLOW, "audio": AUDIO}
    table = TABLE.assign(split=["training", "test", "test"])
    rows = count_lost(
        table, select_usable(table, tmp_path, settings_by_encoder, "drop")["clip"], tmp_path, settings_by_encoder
    )
    assert rows.to_numpy().tolist() == [["faces", "why", "test", 1], ["flow", "why", "test", 1], ["audio", "", "", 0]]
    assert count_lost(table, ["a", "b", "c"], tmp_path, settings_by_encoder)["clips"].tolist() == [0, 0, 0]


def test_lengths_are_those_of_the_usable_clips_of_each_split(tmp_path: Path) -> None:
    lengths = {"a": 10, "b": 4, "c": 7, "d": 6, "e": 9}
    for stream in ("faces", "text"):
        (tmp_path / stream).mkdir()
        with h5py.File(tmp_path / stream / "one.h5", "w") as file:
            for name, length in lengths.items():
                found = np.arange(length) > 0  # the first face is absent
                arrays = {"times": np.arange(length) / 5, "found": found.astype(np.uint8)}
                words = {"words": np.zeros((2 * length, 3), np.float32), "words.times": np.arange(2 * length)}
                record = Record(name, arrays) if stream == "faces" else Record(name, words, {"words": 3 * length})
                shards.write_record(file, Record(name, rejected="why") if name == "e" else record)
    table = pd.DataFrame({"clip": list(lengths), "shard": "one"})
    measured = measure_lengths({"training": table[:3], "test": table[3:]}, tmp_path, {"faces": None, "text": None})
    faces = {"clips": 3, "mean": 6.0, "min": 3, "q05": 3.3, "q25": 4.5, "median": 6.0, "q75": 7.5, "q95": 8.7, "max": 9}
    assert measured["faces"] == {"training": faces, "test": dict.fromkeys(faces, 5) | {"clips": 1}}
    assert measured["text.words"]["training"]["mean"] == 14
    assert [measured["text (words)"]["training"][key] for key in ("min", "median", "max")] == [12, 21, 30]
    rows = tabulate_lengths(measured).splitlines()
    assert rows[2].startswith("| stream | split | clips | mean | lowest | 5 %")
    assert rows[4] == "| faces | training | 3 | 6 | 3 | 3.3 | 4.5 | 6 | 7.5 | 8.7 | 9 |"
    assert len(rows) == 4 + 6


def test_select_usable_names_missing_shards_and_clips(tmp_path: Path) -> None:
    write_shards(tmp_path, "faces", {"one": ["a", "b"]})
    write_shards(tmp_path, "flow", {"one": ["b"], "two": ["c"]})
    with pytest.raises(InputError, match=r"faces/two\.h5 is missing; run `dvc repro faces`"):
        select_usable(TABLE, tmp_path, {"faces": FACES}, "drop")
    with pytest.raises(
        InputError, match=r"clip a is missing in .*flow/one\.h5 \(1 clips in total\); run `dvc repro flow`"
    ):
        select_usable(TABLE, tmp_path, {"flow": FLOW}, "keep")


def make_encoder_inputs(
    settings: EncoderSettings, seed: list[int] | None = None, length: int = 10, **records: Record
) -> dict[str, Any]:
    return make_inputs({"faces": make_record("faces", length=length)} | records, {"one": settings}, SHAPES, seed)["one"]


def chosen_steps(settings: EncoderSettings, seed: list[int] | None = None, length: int = 10) -> list[int]:
    inputs = make_encoder_inputs(settings, seed, length)["faces"]
    assert inputs.present.all()
    assert inputs.times == pytest.approx(inputs.values[:, 0, 0, 0] / 5)
    assert inputs.values.shape[1:] == (3, 4, 4)
    return inputs.values[:, 0, 0, 0].tolist()


def test_inputs_take_parts_a_window_or_all_steps() -> None:
    parts, window, all_steps = (make_settings("faces", take=take, steps=4) for take in ("parts", "window", "all"))
    assert chosen_steps(parts) == [1, 3, 6, 8]  # the middles of four equal parts of ten steps
    assert chosen_steps(window) == [3, 4, 5, 6]
    assert chosen_steps(all_steps) == list(range(10))
    assert chosen_steps(parts, length=2) == [0, 0, 1, 1]
    assert chosen_steps(window, length=2) == [0, 1]
    draws = [chosen_steps(parts, [0, epoch, 0]) for epoch in range(200)]
    assert draws[7] == chosen_steps(parts, [0, 7, 0])
    assert {tuple(steps) for steps in draws} > {(0, 2, 5, 7)}
    for part, first, last in ((0, 0, 2), (1, 2, 4), (2, 5, 7), (3, 7, 9)):
        assert {steps[part] for steps in draws} == set(range(first, last + 1))
    starts = {chosen_steps(window, [0, epoch, 0])[0] for epoch in range(200)}
    assert starts == set(range(7))
    assert all(np.diff(chosen_steps(window, [0, epoch, 0])).tolist() == [1, 1, 1] for epoch in range(20))
    assert chosen_steps(all_steps, [0, 1, 2]) == list(range(10))


def test_inputs_skip_steps_without_a_face() -> None:
    is_found = np.array([0, 2, 1, 0, 0, 2, 0, 2, 0, 0], np.uint8)
    record = make_record("faces")
    faces = Record("a", {**record.arrays, "found": is_found})
    for take in ("parts", "window", "all"):
        for seed in (None, [1, 2, 3]):
            inputs = make_encoder_inputs(make_settings("faces", take=take, steps=3), seed, faces=faces)["faces"]
            assert set(inputs.values[:, 0, 0, 0]) <= {1, 2, 5, 7}
            assert inputs.times == pytest.approx(inputs.values[:, 0, 0, 0] / 5)


@pytest.mark.parametrize("seed", [None, [5, 0, 1]])
def test_streams_are_read_at_the_times_of_the_first(seed: list[int] | None) -> None:
    streams = {"audio": make_record("audio", length=195), "flow": make_record("flow", length=7)}
    inputs = make_encoder_inputs(make_settings("faces", "flow", "audio.mfcc", take="parts", steps=4), seed, **streams)
    assert list(inputs) == ["faces", "flow", "audio.mfcc"]
    times = inputs["faces"].times
    assert all((steps.times == times).all() for steps in inputs.values())
    flow = inputs["flow"].values[:, 0, 0, 0] / 0.5 / 4  # in seconds
    assert np.abs(flow - np.minimum(times, 1.5)).max() <= 0.125 + 1e-6
    windows = -inputs["audio.mfcc"].values[:, 0] * 0.01 + 0.0125
    assert np.abs(windows - times)[times > 0.0125].max() <= 0.005 + 1e-6
    swapped = make_encoder_inputs(make_settings("audio.log_mel", "faces"), seed, **streams)
    assert len(swapped["faces"].times) == 195
    assert swapped["faces"].values[:, 0, 0, 0].tolist() == [
        min(9, round(5 * (0.01 * window + 0.0125))) for window in range(195)
    ]


def test_encoder_with_a_rejected_stream_gets_no_steps() -> None:
    streams = {"audio": Record("a", rejected="audio: has no sound")}
    inputs = make_encoder_inputs(make_settings("faces", "audio.mfcc", take="parts", steps=4), **streams)
    assert inputs["faces"].values.shape == (0, 3, 4, 4)
    assert inputs["faces"].values.dtype == np.uint8
    assert inputs["audio.mfcc"].values.shape == (0, 1)
    assert len(inputs["audio.mfcc"].times) == len(inputs["faces"].present) == 0


TARGETS = {
    "near": TargetGroup(columns=["calm", "warm"], range=[1, 7], head="linear", loss="mse", weight=1.0),
    "far": TargetGroup(columns=["age"], range=[0, 100], head="linear", loss="mse", weight=1.0),
}
RATED = TABLE.assign(calm=[1, 4, np.nan], warm=[7, 2.5, np.nan], age=[np.nan, 20, 50], corpus="x")


def test_scale_labels_uses_the_range_and_keeps_missing() -> None:
    scaled = scale_labels(RATED, TARGETS)
    assert scaled["near"] == pytest.approx(np.array([[0, 1], [0.5, 0.25], [np.nan, np.nan]]), nan_ok=True)
    assert scaled["far"] == pytest.approx(np.array([[np.nan], [0.2], [0.5]]), nan_ok=True)
    with pytest.raises(InputError, match=r"targets\.near\.range = \[1\.0, 7\.0\], but warm of clip b is 7\.5"):
        scale_labels(RATED.assign(warm=[7, 7.5, 0]), TARGETS)
    with pytest.raises(InputError, match=r"targets\.far\.columns has 'age', which data/clips\.csv does not have"):
        scale_labels(RATED.drop(columns="age"), TARGETS)


def test_select_videos_nests_smaller_sets_of_videos() -> None:
    videos = [f"v{index % 40}" for index in range(100)]
    table = pd.DataFrame({"clip": [f"c{index}" for index in range(100)], "video": videos})
    selected = {clips: select_videos(table, clips, 0) for clips in (10, 25, 60, 100)}
    for clips, rows in selected.items():
        assert clips - 3 < len(rows) <= clips
        assert not set(rows["video"]) & set(table["video"][~table["clip"].isin(rows["clip"])])
    for fewer, more in ((10, 25), (25, 60), (60, 100)):
        assert set(selected[fewer]["clip"]) < set(selected[more]["clip"])
    assert select_videos(table, None, 0) is table
    assert set(select_videos(table, 25, 1)["clip"]) != set(selected[25]["clip"])
    assert set(select_videos(table[::-1], 25, 0)["clip"]) == set(selected[25]["clip"])
    with pytest.raises(InputError, match=r"train\.clips = 101; allowed: null, or up to 100"):
        select_videos(table, 101, 0)
    with pytest.raises(InputError, match=r"train\.clips = 1; allowed with train\.seed = 0: at least [23]"):
        select_videos(table, 1, 0)


def test_mask_labelled_requires_one_label_of_a_group() -> None:
    groups = {
        name: TargetGroup(columns=columns, range=[0, 1], head="sigmoid", loss="mse", weight=1)
        for name, columns in (("both", ["a", "b"]), ("one", ["c"]))
    }
    nan = float("nan")
    table = pd.DataFrame({"clip": list("wxyz"), "a": [0.5, nan, nan, nan], "b": nan, "c": [nan, 0.5, nan, 0.5]})
    assert mask_labelled(table, groups).tolist() == [True, True, False, True]


def test_collate_pads_and_marks_present_steps(tmp_path: Path) -> None:
    write_shards(tmp_path, "faces", ALL_CLIPS, rejected="b")
    write_shards(tmp_path, "flow", {"one": ["a", "b"]}, length=3)
    write_shards(tmp_path / "longer", "flow", {"two": ["c"]}, length=8)
    (tmp_path / "longer/flow/two.h5").rename(tmp_path / "flow/two.h5")
    settings_by_encoder = {"faces": make_settings("faces", take="parts", steps=2), "flow": FLOW}
    data = ClipDataset(RATED, tmp_path, settings_by_encoder, SHAPES, TARGETS)
    batch = collate([data[index] for index in range(3)])
    faces, flow = batch.inputs["faces"]["faces"], batch.inputs["flow"]["flow"]
    assert faces.present.tolist() == [[True, True], [False, False], [True, True]]
    assert faces.values.shape == (3, 2, 3, 4, 4)
    assert faces.values[0, :, 0, 0, 0].tolist() == pytest.approx([2 / 255, 7 / 255])  # images in [0, 1]
    assert not faces.values[1].any()
    assert flow.present.sum(1).tolist() == [3, 3, 8]
    assert flow.values[0, :, 0, 0, 0].tolist() == [0, 0.5, 1, 0, 0, 0, 0, 0]
    assert batch.targets["near"][1].tolist() == [0.5, 0.25]
    assert batch.targets["near"][2].isnan().all()
    assert batch.index.tolist() == [0, 1, 2]


def test_random_steps_change_per_epoch_for_all_encoders(tmp_path: Path) -> None:
    write_shards(tmp_path, "faces", ALL_CLIPS)
    settings_by_encoder = {name: make_settings("faces", take="parts", steps=4) for name in ("faces", "again")}
    data = ClipDataset(RATED, tmp_path, settings_by_encoder, SHAPES, {}, seed=3)
    draws = set()
    for epoch in range(20):
        data.epoch = epoch
        inputs = data[0].inputs
        assert (inputs["faces"]["faces"].times == inputs["again"]["faces"].times).all()
        draws.add(tuple(inputs["faces"]["faces"].times))
    assert len(draws) > 10
    fixed = ClipDataset(RATED, tmp_path, settings_by_encoder, SHAPES, {})
    assert (fixed[0].inputs["faces"]["faces"].times == fixed[0].inputs["faces"]["faces"].times).all()
    assert list_streams(settings_by_encoder | {"sound": make_settings("audio.mfcc", "audio.log_mel")}) == [
        "faces",
        "audio",
    ]


def test_dataset_caches_only_small_fixed_samples(tmp_path: Path) -> None:
    write_shards(tmp_path, "audio", ALL_CLIPS)
    write_shards(tmp_path, "flow", ALL_CLIPS, length=600)
    parts = make_settings("audio.mfcc", take="parts", steps=3)
    small = ClipDataset(RATED, tmp_path, {"audio": AUDIO}, SHAPES, TARGETS, seed=3)
    large = ClipDataset(RATED, tmp_path, {"flow": FLOW}, SHAPES, TARGETS)
    randomly_sampled = ClipDataset(RATED, tmp_path, {"audio": parts}, SHAPES, TARGETS, seed=3)
    first = small[1]
    small.epoch = 1
    assert small[1] is first
    reread = ClipDataset(RATED, tmp_path, {"audio": AUDIO}, SHAPES, TARGETS)[1]
    for cached, reread_part in zip(
        first.inputs["audio"]["audio.log_mel"], reread.inputs["audio"]["audio.log_mel"], strict=True
    ):
        assert (cached == reread_part).all()
    assert first.targets["near"].tolist() == [0.5, 0.25]
    assert (small[0].index, small[2].index) == (0, 2)
    assert large[0] is not large[0]
    assert randomly_sampled[0] is not randomly_sampled[0]


def test_stack_rejects_steps_of_different_shapes() -> None:
    clips = [make_encoder_inputs(make_settings("faces"), faces=make_record("faces"))["faces"] for _ in range(2)]
    clips[1] = clips[1]._replace(values=clips[1].values[..., :3])
    with pytest.raises(InputError, match=r"steps of faces have different shapes: \(3, 4, 3\), \(3, 4, 4\)"):
        stack("faces", clips)
