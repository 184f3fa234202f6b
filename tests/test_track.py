"""Faces are detected in key frames and tracked through the frames between them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN

from lib.core.errors import InputError
from lib.core.weight_files import find_file
from lib.sources.demo.head import Identity, Performance, render
from lib.streams import frames
from lib.streams.base import Raw
from lib.streams.faces import Settings, validate_inputs
from lib.streams.faces.align import describe_faces
from lib.streams.faces.detect import Detector, Faces
from lib.streams.faces.follow import follow
from lib.streams.faces.frame import Frame
from lib.streams.faces.mtcnn import load_networks
from lib.streams.faces.track import Tracker, find_cuts, find_key_frames
from lib.streams.faces.yunet import YuNet
from tests.conftest import REAL, needs_real_clips

NO_FACES = Faces(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(40, load_networks(torch.device("cpu")))


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """One frame of a talking head, RGB uint8 (H, W, 3)."""
    return render(Identity(1), Performance(0.5, 1.5, 0.5, 2), 0.2, 15)[0][0]


def as_frames(frames: Sequence[np.ndarray]) -> list[Frame]:
    return [Frame(frame) for frame in frames]


class ScriptedDetector:
    """Detects and tracks `faces` in every frame except those in `losing`, and records the frames it gets.

    The first pixel of a frame is its number.
    """

    def __init__(self, losing: Sequence[int] = (), faces: Faces | None = None) -> None:
        single_face = Faces(np.array([[10.0, 10, 30, 30]]), np.ones(1), np.zeros((1, 5, 2)))
        self.losing, self.faces = losing, faces or single_face
        self.calls: list[int] = []
        self.detected: list[int] = []
        self.tracked: list[int] = []

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        self.calls.append(len(frames))
        self.detected += [int(frame[0, 0, 0]) for frame in frames]
        return [self.faces for _ in frames]

    def refine(self, frames: Sequence[Frame], near: Sequence[Faces], runs: int) -> list[Faces | None]:
        numbers = [int(frame.pixels[0, 0, 0]) for frame in frames]
        self.tracked += [number for number in numbers if number not in self.detected]
        is_tracked = [
            len(faces.boxes) and number not in self.losing for number, faces in zip(numbers, near, strict=True)
        ]
        return [faces if is_there else None for is_there, faces in zip(is_tracked, near, strict=True)]


def track_grey_frames(detector: ScriptedDetector, scenes: Sequence[int], seconds: float, batch: int = 8) -> list[Faces]:
    """Track through grey frames at 5 per second; the grey level of a frame is its scene."""
    frames = np.stack([np.full((36, 64, 3), level, np.uint8) for level in scenes])
    frames[:, 0, 0, 0] = np.arange(len(scenes))
    batches = [as_frames(frames[start : start + batch]) for start in range(0, len(frames), batch)]
    return Tracker(detector, seconds)(batches, np.arange(len(scenes)) / 5)  # type: ignore[arg-type]


def test_detector_equals_facenet_pytorchs_mtcnn(detector: Detector, head: np.ndarray) -> None:
    small = cv2.resize(head, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    frames = np.full((3, len(head) + 7, head.shape[1] + small.shape[1], 3), 90, np.uint8)
    frames[1, : len(head), small.shape[1] :] = head
    frames[2, : len(small), : small.shape[1]], frames[2, 7:, small.shape[1] :] = small, head
    expected = MTCNN(keep_all=True, min_face_size=40).detect(frames, landmarks=True)
    detected = detector(frames)
    assert [len(faces.boxes) for faces in detected] == [0, 1, 2]
    for faces, boxes, scores, points in list(zip(detected, *expected, strict=True))[1:]:
        assert np.abs(faces.boxes - np.array(boxes, float)).max() < 0.01
        assert np.abs(faces.scores - np.array(scores, float)).max() < 1e-4
        assert np.abs(faces.points - np.array(points, float)).max() < 0.01
    assert [len(faces.boxes) for faces in detector(frames[:, :39])] == [0, 0, 0]


def test_key_frame_is_the_first_of_its_interval() -> None:
    assert np.flatnonzero(find_key_frames(np.arange(11) / 5, 1.0)).tolist() == [0, 5, 10]
    assert np.flatnonzero(find_key_frames(np.arange(31) / 30, 0.7)).tolist() == [0, 21]
    assert np.flatnonzero(find_key_frames(np.array([0.0, 0.9, 2.1, 2.5, 3.0]), 1.0)).tolist() == [0, 2, 4]
    assert find_key_frames(np.arange(5) / 5, 0.1).all()


def test_frames_between_key_frames_are_tracked() -> None:
    detector = ScriptedDetector()
    assert len(track_grey_frames(detector, [0] * 20, 1.0)) == 20
    assert sorted(detector.detected) == [0, 5, 10, 15]
    assert sorted(detector.tracked) == sorted(set(range(20)) - {0, 5, 10, 15})
    all_key_frames = ScriptedDetector()
    track_grey_frames(all_key_frames, [0] * 20, 0)
    assert all_key_frames.detected == list(range(20))
    assert not all_key_frames.tracked


def test_tracker_detects_again_after_each_cut() -> None:
    detector = ScriptedDetector()
    track_grey_frames(detector, [0] * 3 + [90] * 5 + [200] * 4, 3600)
    assert sorted(detector.detected) == [0, 3, 8]


def test_tracker_detects_again_when_a_face_is_lost() -> None:
    detector = ScriptedDetector(losing=[4, 9])
    track_grey_frames(detector, [0] * 12, 3600)
    assert sorted(detector.detected) == [0, 4, 9]


def test_tracker_searches_every_frame_without_faces() -> None:
    detector = ScriptedDetector(faces=NO_FACES)
    assert all(len(faces.boxes) == 0 for faces in track_grey_frames(detector, [0] * 12, 1.0))
    assert sorted(detector.detected) == list(range(12))
    assert len(detector.calls) < 6  # all frames between two key frames form one call


def test_find_cuts_ignores_a_moving_head(head: np.ndarray) -> None:
    moving = np.stack([transform(head, 4 * step, 0) for step in range(6)])
    assert not find_cuts(as_frames(moving)).any()
    other = np.ascontiguousarray(255 - head)
    assert find_cuts(as_frames([head, head, other, other, head])).tolist() == [False, False, True, False, True]
    assert not find_cuts(as_frames(np.zeros((2, 3, 2, 3), np.uint8))).any()


def transform(head: np.ndarray, right: float, down: float, scale: float = 1.0, width: float = 1.0) -> np.ndarray:
    """Return the head shifted by pixels, scaled about its centre, and narrowed as if it turned."""
    middle = np.array(head.shape[1::-1]) / 2
    matrix = np.diag([scale * width, scale])
    shift = middle - matrix @ middle + [right, down]
    return cv2.warpAffine(head, np.column_stack([matrix, shift]), head.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def relative_distance(first: Faces, second: Faces) -> float:
    """Return the mean distance between the landmarks of the first faces, as a fraction of the face width."""
    return float(np.linalg.norm(first.points[0] - second.points[0], axis=1).mean() / np.ptp(first.boxes[0, [0, 2]]))


def detect_every_frame(detector: Detector, frames: np.ndarray) -> list[Faces]:
    """Return the detected faces if every frame is a key frame."""
    return Tracker(detector, 0.1)([as_frames(frames)], np.arange(len(frames)) / 5)


def test_refined_face_lies_where_the_detector_finds_it(detector: Detector, head: np.ndarray) -> None:
    frames = np.stack([transform(head, 4 * step, 2 * step, 1 + 0.02 * step) for step in range(5)])
    detected_by_batch, detected = detector(frames), detect_every_frame(detector, frames)
    refined = detector.refine(as_frames(frames[1:]), detected[:-1], 3)
    assert all(faces is not None and len(faces.boxes) == 1 for faces in refined)
    assert (
        max(
            relative_distance(expected, tracked)
            for expected, tracked in zip(detected_by_batch[1:], refined, strict=True)
            if tracked
        )
        < 0.03
    )
    assert (
        max(
            relative_distance(expected, tracked)
            for expected, tracked in zip(detected[1:], refined, strict=True)
            if tracked
        )
        < 0.01
    )


def test_landmarks_move_with_the_image(detector: Detector, head: np.ndarray) -> None:
    shifts = np.array([[0, 0], [0.4, 0.7], [1.5, -0.5], [-2.3, 1.1], [3.2, 2.6]])
    frames = np.stack([transform(head, *shift) for shift in shifts.tolist()])

    def error(faces_of_frames: Sequence[Faces]) -> float:
        points = np.stack([faces.points[0] for faces in faces_of_frames]) - shifts[:, None]
        return float(
            np.linalg.norm(points - points.mean(0), axis=2).mean() / np.ptp(faces_of_frames[0].boxes[0, [0, 2]])
        )

    assert error(detect_every_frame(detector, frames)) < min(0.003, error(detector(frames)) / 2)


def test_landmarks_stay_in_a_still_image(detector: Detector, head: np.ndarray) -> None:
    tracked = Tracker(detector, 1.0)([as_frames([head] * 11)], np.arange(11) / 5)
    assert max(relative_distance(first, second) for first, second in pairwise(tracked)) < 0.002


def test_face_after_a_cut_is_at_its_new_position(detector: Detector, head: np.ndarray) -> None:
    other = np.ascontiguousarray(transform(head[:, ::-1], 60, 20, 0.8))
    other[: len(other) // 4] = 0
    frames = np.stack([head] * 3 + [other] * 3)
    assert find_cuts(as_frames(frames)).tolist() == [False, False, False, True, False, False]
    tracked = Tracker(detector, 3600)([as_frames(frames)], np.arange(6) / 5)
    (expected,) = detector(other[None])
    assert max(relative_distance(expected, faces) for faces in tracked[3:]) < 0.03


@needs_real_clips
@pytest.mark.parametrize("clip", ["0ObEtA6Q8vU.004.mp4", "6KKNrufnL80.000.mp4"])
@pytest.mark.slow
def test_tracked_landmarks_equal_those_detected_in_each_frame(detector: Detector, clip: str) -> None:
    sampled = frames.sample_frames(Raw(clip, REAL / clip, (0.0, 4.0)), 5.0, 640, 90)
    pictures = frames.decode_all_frames(sampled)
    times = sampled.arrays["times"]
    tracked, detected = (Tracker(detector, seconds)([as_frames(pictures)], times) for seconds in (1.0, 0.1))
    assert [len(faces.boxes) for faces in tracked] == [len(faces.boxes) for faces in detected]
    distances = [
        relative_distance(expected, tracked_faces) for expected, tracked_faces in zip(detected, tracked, strict=True)
    ]
    assert np.median(distances) < 0.01
    assert np.percentile(distances, 95) < 0.03


def test_refine_reports_lost_faces(detector: Detector, head: np.ndarray) -> None:
    (face,) = detector(head[None])
    left, top, right, bottom = face.boxes[0].round().astype(int)
    covered = head.copy()
    covered[top - 20 : bottom + 20, left - 20 : right + 20] = 128
    outside = Faces(face.boxes + [head.shape[1], 0, head.shape[1], 0], face.scores, face.points)
    without_area = Faces(face.boxes[:, [0, 1, 0, 1]], face.scores, face.points)
    twice = Faces(np.concatenate([face.boxes, face.boxes + 3]), np.ones(2), np.zeros((2, 5, 2)))
    frames = as_frames([head, covered, head, head, head, head])
    refined = detector.refine(frames, [face, face, outside, without_area, twice, NO_FACES], 2)
    assert [faces is not None for faces in refined] == [True, False, False, False, False, False]
    assert detector.refine(frames[:0], [], 2) == []


@pytest.mark.slow
def test_tracking_for_a_minute_does_not_drift(detector: Detector, head: np.ndarray) -> None:
    times = np.arange(300) / 5
    frames = []
    for seconds in times:
        width = 1 - 0.4 * max(0.0, np.sin(2 * np.pi * seconds / 7)) ** 4
        frames.append(
            transform(head, 30 * np.sin(seconds), 10 * np.sin(1.7 * seconds), 1 + 0.2 * np.sin(seconds / 9), width)
        )
        if 30 <= seconds < 32:
            frames[-1] = np.full_like(head, 100)
    pictures = np.stack(frames)
    tracked = Tracker(detector, 3600)([as_frames(pictures[:150]), as_frames(pictures[150:])], times)
    is_visible = np.array([len(faces.boxes) == 1 for faces in tracked])
    assert is_visible.tolist() == [not 30 <= seconds < 32 for seconds in times]
    checked = np.flatnonzero(is_visible)[7::20]
    distances = [
        relative_distance(expected, tracked[index])
        for index, expected in zip(checked, detect_every_frame(detector, pictures[checked]), strict=True)
    ]
    assert np.median(distances) < 0.01
    assert max(distances) < 0.03


def test_tracker_keeps_to_the_same_of_two_heads(detector: Detector, head: np.ndarray) -> None:
    small = cv2.resize(head, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    frames = np.full((20, len(head), head.shape[1] + small.shape[1], 3), 90, np.uint8)
    for step, frame in enumerate(frames):
        frame[:, small.shape[1] :] = transform(head, 15 * np.sin(step / 2), 0)
        if step >= 7:  # the smaller head appears between two key frames
            frame[: len(small), : small.shape[1]] = transform(small, 10 * np.sin(step / 3), 0)
    tracked = Tracker(detector, 1.0)([as_frames(frames)], np.arange(20) / 5)
    face_of = follow(tracked, *describe_faces(tracked, [as_frames(frames)]), np.arange(20) / 5).faces
    middles = [faces.boxes[face, [0, 2]].mean() for faces, face in zip(tracked, face_of, strict=True)]
    assert min(middles) > small.shape[1]
    assert [len(faces.boxes) for faces in tracked[10:]] == [2] * 10


class FakeYuNet:
    """Replaces OpenCV's YuNet: returns the same rows for every image."""

    def __init__(self, *rows: list[float]) -> None:
        self.rows = np.array(rows, np.float32) if rows else None

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
        self.size = size

    def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
        assert image.shape == (*self.size[::-1], 3)
        return 1, self.rows


def test_yunet_rows_become_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [110.0, 70, 140, 71, 125, 90, 112, 105, 138, 106]
    rows = [100.0, 50, 50, 60, *points, 0.9], [10.0, 20, 20, 23, *points, 0.8], [200.0, 20, 80, 90, *points, 0.7]
    (tmp_path / "yunet.onnx").touch()
    detectors = [FakeYuNet(*rows), FakeYuNet()]
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_: detectors.pop(0))
    faces, no_faces = (
        YuNet(str(tmp_path / "yunet.onnx"), 40, load_networks(torch.device("cpu")))(
            np.zeros((1, 120, 320, 3), np.uint8)
        )[0]
        for _ in (0, 1)
    )
    assert faces.boxes.tolist() == [
        [200, 20, 280, 110],
        [100, 50, 150, 110],
    ]  # the largest first, without those below the minimum size
    assert faces.scores == pytest.approx([0.7, 0.9])
    assert faces.points[1].tolist() == np.reshape(points, (5, 2)).tolist()
    assert (no_faces.boxes.shape, no_faces.scores.shape, no_faces.points.shape) == ((0, 4), (0,), (0, 5, 2))


def test_yunet_without_weights_names_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"faces\.weights = 'none\.onnx' is not a file; .*tools\.weights yunet"):
        YuNet("none.onnx", 40, load_networks(torch.device("cpu")))
    with pytest.raises(InputError, match=r"faces\.detector = yunet, but .*are missing; .*tools\.weights yunet"):
        YuNet(None, 40, load_networks(torch.device("cpu")))
    (tmp_path / "text.onnx").write_text("none")
    with pytest.raises(InputError, match="can't be read as YuNet's"):
        YuNet(str(tmp_path / "text.onnx"), 40, load_networks(torch.device("cpu")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"detector": "yunet", "weights": "a.onnx", "key_seconds": 0},
            "faces.key_seconds = 0 with faces.detector = yunet",
        ),
        ({"weights": "a.onnx"}, "faces.weights = 'a.onnx' with faces.detector = mtcnn"),
    ],
)
def test_validate_inputs_rejects_detectors_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    values = {"enabled": True, "side": 64, "min_face": 40, "min_found": 0.5, "max_gap": 1.0, "key_seconds": 1.0}
    settings = Settings(**(values | {"detector": "mtcnn", "weights": None, "identity": "none"} | changes))  # type: ignore[arg-type]
    frame_settings = frames.Settings(enabled=True, fps=5, max_side=640, quality=90)
    inputs = {"frames": SimpleNamespace(settings=frame_settings.model_dump())}
    with pytest.raises(InputError, match=message):
        validate_inputs(settings, inputs)  # type: ignore[arg-type]


@pytest.mark.skipif(not find_file("yunet").is_file(), reason="run python -m tools.weights yunet")
def test_refined_yunet_faces_have_mtcnn_landmarks(detector: Detector, head: np.ndarray) -> None:
    pictures = np.stack([transform(head, 4 * step, 2 * step, 1 + 0.02 * step) for step in range(5)])
    yunet = YuNet(None, 40, load_networks(torch.device("cpu")))
    by_yunet, by_mtcnn = yunet(pictures), detector(pictures)
    assert [len(first.boxes) for first in by_yunet] == [1] * 5
    assert (
        max(relative_distance(first, second) for first, second in zip(by_mtcnn, by_yunet, strict=True)) < 0.1
    )  # hence in the same order
    refined = detect_every_frame(yunet, pictures), detect_every_frame(detector, pictures)
    assert np.median([relative_distance(first, second) for first, second in zip(*refined, strict=True)]) < 0.005
