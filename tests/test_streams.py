"""Frames and faces, and the description in a stream's folder."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.media.frames import read_frames
from lib.media.writing import write_video
from lib.sources.demo.head import SAMPLE_RATE, Performance
from lib.streams import base, frames
from lib.streams._extraction import BatchExtractor, extract_all
from lib.streams.base import Raw, StreamInfo
from lib.streams.faces import align
from lib.streams.faces.constants import DETECTED
from lib.streams.faces.detect import Detector, Faces
from lib.streams.faces.follow import follow
from lib.streams.faces.frame import Frame
from lib.streams.faces.mtcnn import load_networks
from tests.video_files import write_talking_head

CPU = torch.device("cpu")


def raw(path: Path) -> Raw:
    return Raw(path.name, path, None)


def write_grey_levels(path: Path, levels: list[int], fps: int) -> None:
    """Write a video with one grey level per frame, so that a decoded frame identifies its number."""
    images = np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 64, 96, 3))
    write_video(path, np.ascontiguousarray(images), fps, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)


@pytest.mark.parametrize("fps", [5, 15, 25, 60])
def test_frames_are_sampled_by_time(tmp_path: Path, fps: int) -> None:
    levels = [20 + 200 * index // (2 * fps) for index in range(2 * fps)]
    write_grey_levels(tmp_path / "a.mp4", levels, fps)
    sampled = list(read_frames(tmp_path / "a.mp4", 5.0))
    assert [time for time, _ in sampled] == pytest.approx(np.arange(10) / 5)
    expected = [levels[int(index * fps / 5 + 1e-6)] for index in range(10)]
    assert [frame.mean() for _, frame in sampled] == pytest.approx(expected, abs=2.5)


def test_sample_frames_limits_the_side_and_decodes_again(tmp_path: Path) -> None:
    write_grey_levels(tmp_path / "a.mp4", [100] * 30, 15)
    record = frames.sample_frames(raw(tmp_path / "a.mp4"), 5, 48, 90)
    images = frames.decode_all_frames(record)
    assert images.shape == (10, 32, 48, 3)
    assert images.mean() == pytest.approx(100, abs=2)
    assert "flow needs 2" in frames.sample_frames(raw(tmp_path / "a.mp4"), 0.3, 48, 90).rejected
    assert frames.sample_frames(Raw("c.mp4", None, None), 5, 48, 90).rejected == "frames: no video"
    two_steps = frames.read_steps(record, np.array([7, 2]))
    assert two_steps.shape == (2, 3, 32, 48)
    assert (two_steps.transpose(0, 2, 3, 1) == images[[7, 2]]).all()


def faces(*centres: tuple[float, float, float]) -> Faces:
    boxes = np.array([[x - s, y - s, x + s, y + s] for x, y, s in centres], float).reshape(-1, 4)
    return Faces(boxes, np.ones(len(boxes)), np.zeros((len(boxes), 5, 2)))


def test_follow_keeps_to_the_same_person() -> None:
    left, right = (50, 50, 20), (150, 50, 15)
    detections = [faces(left, right), faces(right, left), faces(right), faces(left, right)]
    assert follow_still_faces(detections) == [0, 1, -1, 0]
    assert follow_still_faces([faces(), faces()]) == [-1, -1]
    with_gaps = [faces(left), faces(), faces((75, 50, 20)), faces((500, 500, 20))]
    assert follow_still_faces(with_gaps) == [0, -1, 0, -1]


def follow_still_faces(detections: list[Faces]) -> list[int]:
    """Return the faces that `follow` tracks in one shot if all faces look the same and do not move."""
    thumbnails = [
        np.stack([np.eye(32)] * len(faces_of_frame.boxes)) if len(faces_of_frame.boxes) else np.empty((0, 32, 32))
        for faces_of_frame in detections
    ]
    return follow(
        detections, thumbnails, np.zeros(len(detections), bool), np.arange(len(detections)) / 5
    ).faces.tolist()


def test_interpolate_fills_and_marks_short_gaps() -> None:
    times = np.arange(8) / 5
    landmarks = np.arange(8.0)[:, None, None] * np.ones((8, 5, 2))
    detected = np.array([0, 1, 0, 1, 0, 0, 0, 1], bool)
    landmarks[~detected] = np.nan
    filled, marks = align.interpolate(landmarks, detected, times, np.zeros(8, bool), max_gap=0.5)
    assert marks.tolist() == [0, 2, 1, 2, 0, 0, 0, 2]
    assert filled[2] == pytest.approx(np.full((5, 2), 2.0))
    assert np.isnan(filled[4]).all()
    cut = np.arange(8) == 2
    assert align.interpolate(landmarks, detected, times, cut, max_gap=0.5)[1].tolist() == [0, 2, 0, 2, 0, 0, 0, 2]


def test_alignment_undoes_a_similarity() -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.uniform(0, 255, (112, 112, 3)), (0, 0), 4).astype(np.uint8)
    transform = cv2.getRotationMatrix2D((56, 56), 20, 1.3) + [[0, 0, 40], [0, 0, 30]]
    moved = cv2.warpAffine(image, transform, (220, 200), borderMode=cv2.BORDER_REPLICATE)
    points = align.TEMPLATE @ transform[:, :2].T + transform[:, 2]
    restored = align.warp(Frame(moved), points, 112)
    assert np.abs(restored[20:-20, 20:-20].astype(int) - image[20:-20, 20:-20]).mean() < 1.5


def test_aligner_finds_demo_faces_and_rejects_blank_clips(tmp_path: Path) -> None:
    aligner = align.Aligner(64, Detector(40, load_networks(CPU)), 0.5, 1.0, 1.0)
    write_talking_head(tmp_path / "a.mp4", 1, Performance(0.5, 1.5, 0.5, 2), 3.0)
    record = aligner(frames.sample_frames(raw(tmp_path / "a.mp4"), 5, 640, 90))
    assert record.arrays["faces"].shape == (15, 64, 64, 3)
    assert (record.arrays["found"] == DETECTED).mean() > 0.9
    write_grey_levels(tmp_path / "b.mp4", [0] * 45, 15)
    assert "found in 0%" in aligner(frames.sample_frames(raw(tmp_path / "b.mp4"), 5, 640, 90)).rejected
    lenient = align.Aligner(64, Detector(40, load_networks(CPU)), 0.0, 1.0, 1.0)
    assert (
        "found in 0%" in lenient(frames.sample_frames(raw(tmp_path / "b.mp4"), 5, 640, 90)).rejected
    )  # a clip without any face is always rejected


def test_load_finds_streams_by_name_and_lists_them() -> None:
    names = ["audio", "behaviour", "descriptors", "embeddings", "faces", "features", "flow", "frames", "landmarks"]
    names += ["pictures", "scenes", "sound_descriptors", "speech", "text", "voice", "waveform"]
    assert base.list_names() == names
    kinds = {name: base.load(name).kind for name in base.list_names()}
    assert kinds == dict.fromkeys(kinds, "vectors") | {
        "faces": "pictures",
        "frames": "pictures",
        "flow": "flow",
        "landmarks": "points",
        "pictures": "pictures",
        "waveform": "waveform",
    }
    with pytest.raises(
        InputError, match=r"unknown stream 'face'; allowed: audio, behaviour, descriptors, embeddings, faces"
    ):
        base.load("face")


def write_descriptions(data: Path, *streams: str) -> None:
    for name in streams:
        (data / name).mkdir(parents=True)
        text = json.dumps({"settings": {"of": name}, "shapes": {"": [1]}})
        (data / name / "stream.json").write_text(text)


def test_load_stream_info_lists_inputs_first(tmp_path: Path) -> None:
    write_descriptions(tmp_path, "frames", "faces", "flow", "audio", "descriptors")
    info = base.load_stream_info(tmp_path, ["descriptors", "audio"])
    assert list(info) == ["frames", "faces", "flow", "descriptors", "audio"]
    assert list(base.load_stream_info(tmp_path, ["audio", "flow", "faces"])) == ["audio", "frames", "faces", "flow"]
    assert base.load_stream_info(tmp_path, ["flow"])["faces"] == StreamInfo({"of": "faces"}, {"": [1]})
    assert list(base.load_stream_info(tmp_path, ["audio"])) == ["audio"]
    with pytest.raises(InputError, match=r"^features\.enabled = false, but the stream is needed; allowed: true"):
        base.load_stream_info(tmp_path, ["audio", "features"])


def test_pool_steps_joins_means_and_deviations() -> None:
    arrays = {"log_mel": np.array([[0.0, 1], [2, 5]]), "mfcc": np.array([[1.0], [1]]), "times": np.arange(2.0)}
    pooled = base.pool_steps(base.load("audio"), Record("a", arrays), True)
    assert pooled.tolist() == [1, 3, 1, 2, 1, 0]  # mean and deviation of the first array, then of the second
    single = base.pool_steps(base.load("descriptors"), Record("a", {"descriptor": np.array([7.0, 8])}), False)
    assert single.tolist() == [7, 8]
    layers = {"values": np.array([[[1, 2], [3, 6]], [[3, 4], [5, 8]]], np.float16), "times": np.arange(2.0)}
    pooled = base.pool_steps(
        base.load("embeddings"), Record("a", layers), True
    )  # (T, L, D): the mean over the layers first
    assert pooled.tolist() == [3, 5, 1, 1]


class Doubler(BatchExtractor):
    """Doubles numbers, four clips together, and fails for a clip without a number."""

    clips = 4

    def __init__(self) -> None:
        self.batches: list[int] = []

    def extract_clips(self, inputs: list[tuple[Record]]) -> list[Record]:
        self.batches.append(len(inputs))
        return [Record(record.clip, {"values": 2 * record.arrays["values"]}) for (record,) in inputs]


def test_extract_all_computes_batches_and_isolates_failures() -> None:
    records = [Record(f"{number}", {"values": np.array([number])}) for number in range(6)]
    records[1], records[4] = Record("1", rejected="faces: none"), Record("4")
    doubler = Doubler()
    extracted = list(extract_all(doubler, [(record,) for record in records]))
    assert [record.clip for record in extracted] == ["0", "1", "2", "3", "4", "5"]
    # the first clip; up to four, without the rejected clip; they fail, so each clip alone; the rest
    assert doubler.batches == [1, 3, 1, 1, 1, 1]
    assert [record.rejected for record in extracted] == ["", "faces: none", "", "", "internal: KeyError: 'values'", ""]
    assert [record.arrays["values"][0] for record in extracted if not record.rejected] == [0, 4, 6, 10]
    single = list(extract_all(doubler.__call__, [(record,) for record in records[2:4]]))
    assert [record.arrays["values"][0] for record in single] == [4, 6]
