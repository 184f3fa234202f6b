"""Points of the aligned face: that they lie where the face has them, and how the stream is read."""

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
from lib.streams.landmarks import Settings
from tests.conftest import REAL, needs_real_clips
from tests.test_s2d import SMALL, encoder, together

SIDE = 64
TIMES = np.arange(4) / 5
FOUND = np.array([2, 0, 1, 2], np.uint8)


def of_dots() -> Record:
    """Faces that are aligned from frames in which each of five points, of a face at an angle, is a soft white dot."""
    rng = np.random.default_rng(0)
    angle, scale = 0.3, 1.4
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = align.TEMPLATE @ turn.T + [70, 20] + rng.normal(0, 3, (4, 5, 2))
    down, right = np.mgrid[:240, :260]
    pictures = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    for time in np.flatnonzero(FOUND):
        far = (right - points[time, :, 0, None, None]) ** 2 + (down - points[time, :, 1, None, None]) ** 2
        dots = (255 * np.exp(-far / 18).max(0)).astype(np.uint8)
        pictures[time] = align.warp(Frame(np.repeat(dots[..., None], 3, 2)), points[time], SIDE)
    points[FOUND == 0] = np.nan
    arrays = {"faces": pictures, "landmarks": points.astype(np.float32), "found": FOUND, "times": TIMES}
    return Record("a.mp4", arrays)


def of(faces: Record, detector: str = "faces") -> Record:
    return landmarks.make_extractor(Settings(enabled=True, detector=detector))(faces)  # type: ignore[arg-type]


def test_the_five_points_lie_where_the_aligned_face_has_them() -> None:
    faces = of_dots()
    record = of(faces)
    points = record.arrays["points"]
    assert points.shape == (4, 5, 2)
    assert np.isnan(points[1]).all()
    assert record.attributes["outside"] == 0
    assert 0.3 < record.attributes["pixels_from_template"] < 3
    down, right = np.mgrid[:SIDE, :SIDE] + 0.5  # the middles of pixels
    for time in (0, 2, 3):
        for x, y in points[time]:
            near = np.hypot(right - x, down - y) < 6
            light = faces.arrays["faces"][time, ..., 0] * near / 255.0
            assert (light * right).sum() / light.sum() == pytest.approx(x, abs=0.15)
            assert (light * down).sum() / light.sum() == pytest.approx(y, abs=0.15)


def test_what_is_worth_counting_is_counted(tmp_path: Path) -> None:
    one = of(of_dots())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shards.write_record(file, one)
        shards.write_record(file, Record("b.mp4", one.arrays, {"outside": 3, "pixels_from_template": 2.0}))
        shards.write_record(file, Record("c.mp4", refused="faces: found in 0% of the frames"))
    far = round((one.attributes["pixels_from_template"] + 2) / 2, 3)
    assert landmarks.summary(tmp_path) == {
        "faces": 6,
        "points": 5,
        "outside": 3,
        "mean_pixels_from_template": far,
    }
    (tmp_path / "a.h5").unlink()
    assert landmarks.summary(tmp_path)["mean_pixels_from_template"] is None


@torch.no_grad()
def test_the_encoder_reads_faces_and_the_points_on_them() -> None:
    faces = of_dots()
    records = {"faces": faces, "landmarks": of(faces)}
    own = {"reads": ["faces", "landmarks"], "landmarks": "points", "take": "all"}
    made = encoder([[3, SIDE, SIDE], [5, 2]], **own, init="reference")
    streams = {"faces": StreamInfo({}, {"": [3, SIDE, SIDE]}), "landmarks": StreamInfo({}, {"": [5, 2]})}
    inputs = make_inputs(records, {"s2d": made._settings}, streams, None)["s2d"]
    assert inputs["faces"].times == pytest.approx(TIMES[[0, 2, 3]])
    assert np.isfinite(inputs["landmarks"].values).all()
    assert (inputs["landmarks"].values == records["landmarks"].arrays["points"][[0, 2, 3]]).all()
    read = {name: together([torch.from_numpy(np.asarray(steps.values, np.float32))]) for name, steps in inputs.items()}
    assert made(read).values.shape == (1, 1, SMALL["width"])
    away = read | {"landmarks": read["landmarks"]._replace(values=read["landmarks"].values + 20)}
    assert not torch.allclose(made(away).values, made(read).values)


def test_the_stream_is_of_points_made_from_faces() -> None:
    stream = base.load("landmarks")
    assert (stream.inputs, stream.kind, stream.on_gpu) == (("faces",), "points", False)


def test_a_detector_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(
        InputError, match=r"landmarks\.detector = dlib, but dlib is not installed; run pip install -r require"
    ):
        of(of_dots(), "dlib")


@needs_real_clips
def test_dlibs_points_and_the_five_agree_on_a_real_face() -> None:
    pytest.importorskip("dlib")
    clip = sorted(REAL.glob("*.mp4"))[0]
    side = 112
    aligner = align.Aligner(side, Detector(40, torch.device("cpu")), 0.5, 1.0, 1.0)
    faces = aligner(frames.sample_frames(Raw(clip.name, clip, None), 0.5, 640, 90))
    five, record = of(faces).arrays["points"], of(faces, "dlib")
    points = record.arrays["points"]
    assert points.shape[1:] == (68, 2)
    same = np.stack([points[:, members].mean(1) for members in landmarks._FIVE], 1)
    far = np.linalg.norm(same - five, axis=-1)[faces.arrays["found"] > 0]
    assert np.median(far) < 0.04 * side
    assert record.attributes["pixels_from_template"] < 0.05 * side
    left_to_right = points[:, [0, 36, 39, 27, 42, 45, 16], 0]
    assert (np.diff(left_to_right) > 0).all()


@needs_real_clips
def test_dlibs_face_network_tells_two_real_persons_apart() -> None:
    pytest.importorskip("dlib")
    given = {"enabled": True, "steps": 6, "side": 150, "network": "dlib_face", "weights": None, "colour": "rgb"}
    settings = check(given | {"stn": False, "se": "none", "seed": 0}, embeddings.Settings)
    embed, aligner = (
        embeddings.make_extractor(settings),
        align.Aligner(112, Detector(40, torch.device("cpu")), 0.5, 1.0, 1.0),
    )
    one, other = (
        embed(aligner(frames.sample_frames(Raw(clip.name, clip, None), 0.4, 640, 90))).arrays["values"]
        for clip in sorted(REAL.glob("*.mp4"))[:2]
    )
    assert one.shape == (6, 128)
    within = [np.linalg.norm(of - of.mean(0), axis=1).max() for of in (one, other)]
    assert max(within) < 0.35
    assert np.linalg.norm(one[:, None] - other[None], axis=-1).min() > 0.6  # dlib's own bound between two persons


def test_without_dlib_its_face_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(
        InputError, match=r"embeddings\.network = dlib_face, but dlib is not installed; run pip install -r require"
    ):
        networks.build_network("dlib_face", None, False, "none", 0)
    with pytest.raises(InputError, match=r"embeddings\.weights = 'imagenet'; allowed with dlib_face: null"):
        networks.build_network("dlib_face", "imagenet", False, "none", 0)
