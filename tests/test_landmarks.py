"""Landmarks of the aligned face: their positions, and how encoders read the stream."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lib.core import shards
from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.shards import Record
from lib.data.dataset import make_inputs
from lib.streams import base, embeddings, frames, landmarks
from lib.streams.base import Raw, StreamInfo
from lib.streams.embeddings import networks
from lib.streams.faces import align
from lib.streams.faces.detect import Detector
from lib.streams.faces.frame import Frame
from lib.streams.faces.mtcnn import load_networks
from lib.streams.faces.points import _FIVE
from lib.streams.landmarks import Settings
from tests.conftest import REAL, needs_real_clips
from tests.test_s2d import SMALL_SETTINGS, batch_of, make_encoder
from tools.parameters import merge_parameters, plain

SIDE = 64
TIMES = np.arange(4) / 5
FOUND = np.array([2, 0, 1, 2], np.uint8)


def faces_of_dots() -> Record:
    """Faces aligned from frames that show the five landmarks of a rotated face as soft white dots."""
    rng = np.random.default_rng(0)
    angle, scale = 0.3, 1.4
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = align.TEMPLATE @ rotation.T + [70, 20] + rng.normal(0, 3, (4, 5, 2))
    down, right = np.mgrid[:240, :260]
    images = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    for time in np.flatnonzero(FOUND):
        squared_distance = (right - points[time, :, 0, None, None]) ** 2 + (down - points[time, :, 1, None, None]) ** 2
        dots = (255 * np.exp(-squared_distance / 18).max(0)).astype(np.uint8)
        images[time] = align.warp(Frame(np.repeat(dots[..., None], 3, 2)), points[time], SIDE)
    points[FOUND == 0] = np.nan
    arrays = {"faces": images, "landmarks": points.astype(np.float32), "found": FOUND, "times": TIMES}
    return Record("a.mp4", arrays)


def extract_landmarks(faces: Record, detector: str = "faces") -> Record:
    return landmarks.make_extractor(Settings(enabled=True, detector=detector))(faces)  # type: ignore[arg-type]


def test_five_landmarks_lie_on_their_dots() -> None:
    faces = faces_of_dots()
    record = extract_landmarks(faces)
    points = record.arrays["points"]
    assert points.shape == (4, 5, 2)
    assert np.isnan(points[1]).all()
    assert record.attributes["outside"] == 0
    assert 0.3 < record.attributes["pixels_from_template"] < 3
    down, right = np.mgrid[:SIDE, :SIDE] + 0.5  # centres of pixels
    for time in (0, 2, 3):
        for x, y in points[time]:
            near = np.hypot(right - x, down - y) < 6
            light = faces.arrays["faces"][time, ..., 0] * near / 255.0
            assert (light * right).sum() / light.sum() == pytest.approx(x, abs=0.15)
            assert (light * down).sum() / light.sum() == pytest.approx(y, abs=0.15)


def test_summary_counts_faces_and_landmarks(tmp_path: Path) -> None:
    record = extract_landmarks(faces_of_dots())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shards.write_record(file, record)
        shards.write_record(file, Record("b.mp4", record.arrays, {"outside": 3, "pixels_from_template": 2.0}))
        shards.write_record(file, Record("c.mp4", rejected="faces: found in 0% of the frames"))
    mean_distance = round((record.attributes["pixels_from_template"] + 2) / 2, 3)
    assert landmarks.summary(tmp_path) == {
        "faces": 6,
        "points": 5,
        "outside": 3,
        "mean_pixels_from_template": mean_distance,
    }
    (tmp_path / "a.h5").unlink()
    assert landmarks.summary(tmp_path)["mean_pixels_from_template"] is None


@torch.no_grad()
def test_encoder_reads_faces_with_their_landmarks() -> None:
    faces = faces_of_dots()
    records = {"faces": faces, "landmarks": extract_landmarks(faces)}
    settings = {"reads": ["faces", "landmarks"], "landmarks": "points", "take": "all"}
    encoder = make_encoder([[3, SIDE, SIDE], [5, 2]], **settings, init="reference")
    streams = {"faces": StreamInfo({}, {"": [3, SIDE, SIDE]}), "landmarks": StreamInfo({}, {"": [5, 2]})}
    inputs = make_inputs(records, {"s2d": encoder._settings}, streams, None)["s2d"]
    assert inputs["faces"].times == pytest.approx(TIMES[[0, 2, 3]])
    assert np.isfinite(inputs["landmarks"].values).all()
    assert (inputs["landmarks"].values == records["landmarks"].arrays["points"][[0, 2, 3]]).all()
    batch = {name: batch_of([torch.from_numpy(np.asarray(steps.values, np.float32))]) for name, steps in inputs.items()}
    assert encoder(batch).values.shape == (1, 1, SMALL_SETTINGS["width"])
    moved = batch | {"landmarks": batch["landmarks"]._replace(values=batch["landmarks"].values + 20)}
    assert not torch.allclose(encoder(moved).values, encoder(batch).values)


def test_landmark_stream_reads_faces_and_contains_points() -> None:
    stream = base.load("landmarks")
    assert (stream.inputs, stream.kind, stream.on_gpu) == (("faces",), "points", False)


def test_missing_dlib_is_named_as_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(
        InputError, match=r"landmarks\.detector = dlib, but dlib is not installed; run pip install -r require"
    ):
        extract_landmarks(faces_of_dots(), "dlib")


@needs_real_clips
def test_dlib_landmarks_agree_with_the_five_on_a_real_face() -> None:
    pytest.importorskip("dlib")
    clip = sorted(REAL.glob("*.mp4"))[0]
    side = 112
    aligner = align.Aligner(side, Detector(40, load_networks(torch.device("cpu"))), 0.5, 1.0, 1.0)
    faces = aligner(frames.sample_frames(Raw(clip.name, clip, None), 0.5, 640, 90))
    five, record = extract_landmarks(faces).arrays["points"], extract_landmarks(faces, "dlib")
    points = record.arrays["points"]
    assert points.shape[1:] == (68, 2)
    means = np.stack([points[:, members].mean(1) for members in _FIVE], 1)
    distances = np.linalg.norm(means - five, axis=-1)[faces.arrays["found"] > 0]
    assert np.median(distances) < 0.04 * side
    assert record.attributes["pixels_from_template"] < 0.05 * side
    left_to_right = points[:, [0, 36, 39, 27, 42, 45, 16], 0]
    assert (np.diff(left_to_right) > 0).all()


@needs_real_clips
def test_dlib_embeddings_separate_two_real_persons() -> None:
    pytest.importorskip("dlib")
    values = plain(merge_parameters("demo", []))["embeddings"]
    settings = check(values | {"steps": 6, "side": 150, "network": "dlib_face", "weights": None}, embeddings.Settings)
    embed, aligner = (
        embeddings.make_extractor(settings),
        align.Aligner(112, Detector(40, load_networks(torch.device("cpu"))), 0.5, 1.0, 1.0),
    )
    first, second = (
        embed(aligner(frames.sample_frames(Raw(clip.name, clip, None), 0.4, 640, 90))).arrays["values"]
        for clip in sorted(REAL.glob("*.mp4"))[:2]
    )
    assert first.shape == (6, 128)
    within = [
        np.linalg.norm(extract_landmarks - extract_landmarks.mean(0), axis=1).max()
        for extract_landmarks in (first, second)
    ]
    assert max(within) < 0.35
    assert np.linalg.norm(first[:, None] - second[None], axis=-1).min() > 0.6  # dlib's own bound between two persons


def test_missing_dlib_is_named_as_face_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(
        InputError, match=r"^network = dlib_face, but dlib is not installed; run pip install -r require"
    ):
        networks.build_network("dlib_face", None, False, "none", 0)
    with pytest.raises(InputError, match=r"^weights = 'imagenet'; allowed with dlib_face: null"):
        networks.build_network("dlib_face", "imagenet", False, "none", 0)
