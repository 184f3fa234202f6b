"""Head pose of projected 3D heads, positions through the alignment, blinks, gestures, motion, and names of measures."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from lib.core import shards
from lib.core.shards import Record
from lib.data.pooled import pool_vectors
from lib.streams import base
from lib.streams._measures import COMPUTE, STATISTICS, Measure, summarise_steps
from lib.streams.behaviour import pose
from lib.streams.behaviour.extract import find_blinks
from lib.streams.behaviour.measures import MEASURES
from lib.streams.faces.align import TEMPLATE, warp
from lib.streams.faces.frame import Frame
from lib.streams.faces.points import align_points, find_landmarks
from tests.conftest import ROOT

WIDTH, HEIGHT, SIDE, FPS = 640, 360, 112, 15
TIMES = np.arange(6 * FPS) / FPS
VALUES = {"enabled": True, "focal_length": 0.78, "max_pose_error": 0.15, "away_from": 20.0}
CAMERA = pose.camera_matrix(WIDTH, HEIGHT, 0.78)


def make_heads(count: int, points: int, rng: np.random.Generator, vary: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return angles and projected landmarks of 3D heads. vary: relative deviation of each person's width, height and depth,
    of single landmarks, and of the camera's focal length from the assumed one."""
    heads = []
    for _ in range(count):
        angles = rng.uniform([-25, -35, -30], [25, 35, 30])
        position = np.array([rng.uniform(-60, 60), rng.uniform(-40, 40), rng.uniform(400, 800)])
        indices, solid = pose.POINTS[points]
        person = solid * (1 + vary * rng.normal(size=3)) + vary * 20 * rng.normal(size=solid.shape)
        camera = pose.camera_matrix(WIDTH, HEIGHT, 0.78 * np.exp(3 * vary * rng.normal()))
        landmarks = np.zeros((points, 2))
        landmarks[indices] = pose.project(person, angles, position, camera)
        heads.append((angles, landmarks))
    return heads


def mean_errors(heads: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator, noise: float) -> np.ndarray:
    errors = []
    for angles, landmarks in heads:
        fitted = pose.fit_pose(landmarks + noise * rng.normal(size=landmarks.shape), CAMERA)
        assert fitted is not None
        errors.append(np.abs(fitted.angles - angles))
    return np.mean(errors, axis=0)


@pytest.mark.parametrize("points", [5, 68])
@pytest.mark.parametrize(("noise", "vary", "largest"), [(0, 0, 0.01), (1, 0, 3), (0, 0.05, 3)])
def test_pose_of_projected_heads_is_within_3_degrees(points: int, noise: float, vary: float, largest: float) -> None:
    rng = np.random.default_rng(0)
    errors = mean_errors(make_heads(300, points, rng, vary), rng, noise)
    assert errors.mean() <= largest, errors


def test_pose_signs_are_those_of_openface() -> None:
    solid, straight = pose.POINTS[68][1], np.array([0.0, 0.0, 500.0])
    neutral = pose.project(solid, np.zeros(3), straight, CAMERA)
    tip = [*pose.POINTS[68][0]].index(30)
    assert pose.project(solid, [10, 0, 0], straight, CAMERA)[tip, 1] > neutral[tip, 1]  # looks down
    assert pose.project(solid, [0, 10, 0], straight, CAMERA)[tip, 0] < neutral[tip, 0]  # turns to the left of the image
    eyes = pose.project(solid, [0, 0, 10], straight, CAMERA)[[5, 8], 1]
    assert eyes[1] > eyes[0]  # clockwise: the eye on the right is lower


def test_off_camera_is_the_angle_to_the_camera() -> None:
    off_axis = np.array([200.0, 0.0, 500.0])
    turned = np.degrees(np.arctan2(200, 500))
    for yaw, expected in ((turned, 0), (0, turned), (turned + 15, 15)):
        landmarks = np.zeros((68, 2))
        landmarks[pose.POINTS[68][0]] = pose.project(pose.POINTS[68][1], np.array([0, yaw, 0]), off_axis, CAMERA)
        fitted = pose.fit_pose(landmarks, CAMERA)
        assert fitted is not None
        assert fitted.off_camera == pytest.approx(expected, abs=0.1)


def test_alignment_is_inverted_exactly() -> None:
    rng = np.random.default_rng(0)
    turn = 1.7 * cv2.Rodrigues(np.array([0, 0, 0.4]))[0][:2, :2]
    five = TEMPLATE @ turn.T + [90, 30] + rng.normal(0, 3, (5, 2))
    inside = align_points(five, SIDE)
    np.testing.assert_allclose(pose.to_frame(inside, five, SIDE), five + 0.5, atol=1e-9)
    assert pose.frame_scale(five, SIDE) == pytest.approx(1.7, rel=0.05)


def test_points_seen_in_the_aligned_face_return_to_the_frame() -> None:
    five = 1.5 * TEMPLATE @ cv2.Rodrigues(np.array([0, 0, 0.3]))[0][:2, :2].T + [120, 30]
    frame = np.zeros((260, 360, 3), np.uint8)
    dot = np.array([five[2] + [14.3, 22.8]])
    down, right = np.mgrid[:260, :360]
    frame[:] = (255 * np.exp(-((right - dot[0, 0]) ** 2 + (down - dot[0, 1]) ** 2) / 30))[..., None]
    light = warp(Frame(frame), five, SIDE)[..., 0].astype(float)
    down, right = np.mgrid[:SIDE, :SIDE] + 0.5
    seen = np.array([[(light * right).sum(), (light * down).sum()]]) / light.sum()
    np.testing.assert_allclose(pose.to_frame(seen, five, SIDE), dot + 0.5, atol=0.1)


def make_face(openness: float, mouth: float, brow: float) -> np.ndarray:
    """Return 68 points (68, 3) in mm. openness: eye aspect ratio; mouth, brow: opening and height above the eyes in mm."""
    face = np.zeros((68, 3))
    face[pose.POINTS[68][0]] = pose.POINTS[68][1]
    for outer, inner, lids in ((36, 39, (37, 38, 40, 41)), (45, 42, (44, 43, 47, 46))):
        across = face[inner] - face[outer]
        width = np.linalg.norm(across)
        places = (face[outer] + 0.3 * across, face[outer] + 0.7 * across)
        for lid, place, side in zip(lids, (places[0], places[1], places[1], places[0]), (-1, -1, 1, 1), strict=True):
            face[lid] = place + [0, side * openness * width / 2, 0]
    eyes = (face[36:42].mean(0) + face[42:48].mean(0)) / 2
    face[17:22] = eyes + [-30, -brow, 0]
    face[22:27] = eyes + [30, -brow, 0]
    face[62], face[66] = [0, 43 - mouth / 2, -52], [0, 43 + mouth / 2, -52]
    return face


def make_records(faces: list[np.ndarray], angles: np.ndarray, points: int = 68) -> list[Record]:
    """Return the records of frames, faces, landmarks and flow of heads 500 mm in front of the camera, at TIMES."""
    fives, aligned = [], []
    for solid, turned in zip(faces, angles, strict=True):
        landmarks = pose.project(solid, turned, np.array([20, -10, 500]), CAMERA)
        groups = ([*range(36, 42)], [*range(42, 48)], [30], [48], [54])
        five = np.stack([landmarks[group].mean(0) for group in groups]) - 0.5
        fives.append(five)
        matrix = pose.fit_similarity(five, TEMPLATE * (SIDE / 112))
        aligned.append((landmarks - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5)
    count = len(faces)
    arrays: dict[str, Any] = {
        "faces": np.zeros((count, SIDE, SIDE, 3), np.uint8),
        "landmarks": np.stack(fives).astype(np.float32),
        "found": np.full(count, 2, np.uint8),
        "cut": np.zeros(count, bool),
        "times": TIMES[:count],
    }
    record = Record("a.mp4", arrays)
    five_points = find_landmarks(record, None)
    all_points = Record("a.mp4", {**five_points.arrays, "points": np.stack(aligned).astype(np.float32)})
    flow = Record(
        "a.mp4",
        {"flow": np.zeros((count - 1, SIDE, SIDE, 2), np.int8), "valid": np.ones(count - 1, bool)},
        {"scale": 0.1},
    )
    return [make_frames(count), record, all_points if points == 68 else five_points, flow]


def make_frames(count: int, moving: slice = slice(0, 0)) -> Record:
    """Return frames whose columns `moving` flicker in the lower half."""
    images = []
    for step in range(count):
        image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
        image[HEIGHT // 2 :, moving] += np.uint8(60 * (step % 2))
        images.append(cv2.imencode(".jpg", image)[1])
    offsets = np.cumsum([0, *map(len, images)])
    return Record("a.mp4", {"jpeg": np.concatenate(images), "offsets": offsets, "times": TIMES[:count]})


def measure(records: list[Record], **changes: Any) -> tuple[dict[str, np.ndarray], dict[str, float], Record]:
    """Return the columns by name, the statistics by name, and the record."""
    stream = base.load("behaviour")
    record = stream.make_extractor(stream.settings(**VALUES | changes))(*records)
    names = base.read_names(record)
    columns = dict(zip(names["steps"], record.arrays["steps"].T, strict=True))
    return columns, dict(zip(names["statistics"], record.arrays["statistics"][0].tolist(), strict=True)), record


def make_still(count: int = 30, points: int = 68, **changes: float) -> list[Record]:
    values = {"openness": 0.3, "mouth": 8.0, "brow": 20.0} | changes
    return make_records([make_face(**values)] * count, np.zeros((count, 3)), points)


def test_angles_of_a_moving_head_are_measured() -> None:
    angles = np.column_stack([10 * np.sin(TIMES), 20 * np.cos(TIMES), 15 * np.sin(2 * TIMES)])
    columns, statistics, record = measure(make_records([make_face(0.3, 8, 20)] * len(TIMES), angles))
    for name, expected in zip(("pitch", "yaw", "roll"), angles.T, strict=True):
        np.testing.assert_allclose(columns[name], expected, atol=0.1)
        assert statistics[f"{name}.std"] == pytest.approx(expected.std(), abs=0.1)
    assert columns["pose_error"].max() < 0.01
    assert record.arrays["valid"].all()
    assert [columns[f"head_{axis}"].mean() for axis in "xyz"] == pytest.approx([20, -10, 500], abs=1)


def test_eyes_mouth_and_brows_equal_the_truth() -> None:
    turned = np.tile([12, -15, 10.0], (30, 1))
    columns, _, _ = measure(make_records([make_face(0.3, 12, 20)] * 30, turned))
    assert columns["eye_openness"].mean() == pytest.approx(0.3, rel=0.15)  # the eye aspect ratio depends on the pose
    straight = measure(make_still(openness=0.25))[0]
    assert straight["eye_openness"].mean() == pytest.approx(0.25, rel=0.05)
    assert columns["mouth_opening"].mean() == pytest.approx(12 / 63.2, rel=0.06)
    assert columns["mouth_width"].mean() == pytest.approx(49.2 / 63.2, rel=0.03)
    assert columns["brow_height"].mean() == pytest.approx(20 / 63.2, rel=0.15)


def test_blinks_are_counted_and_long_closure_is_none() -> None:
    openness = np.full(len(TIMES), 0.3)
    for start, length in ((10, 2), (30, 3), (60, 2)):
        openness[start : start + length] = 0.1
    openness[70:82] = 0.1  # 0.8 s: the eyes are shut
    faces = [make_face(value, 8, 20) for value in openness]
    columns, statistics, _ = measure(make_records(faces, np.zeros((len(TIMES), 3))))
    assert statistics["blink.number"] == 3
    assert statistics["blink.rate"] == pytest.approx(30, rel=0.05)  # 3 in 6 s
    assert statistics["blink.duration"] == pytest.approx(7 / 3 / FPS, rel=0.05)
    assert columns["blink"][10:12].tolist() == [1, 1]
    assert not columns["blink"][70:82].any()


def test_blink_at_a_low_frame_rate_is_one_step() -> None:
    openness = np.array([0.3, 0.3, 0.1, 0.3, 0.1, 0.1, 0.3])
    valid = np.ones(7, bool)
    assert find_blinks(openness, valid, 1.0).tolist() == [False, False, True, False, False, False, False]
    assert not find_blinks(openness, ~valid, 1.0).any()


def test_blink_during_a_glance_down_is_found() -> None:
    openness = np.full(60, 0.3)
    openness[10:25] = 0.17  # looks down for 1 s
    openness[18:21] = 0.08
    openness[40:42] = 0.2  # lowered lids for a moment
    assert np.flatnonzero(find_blinks(openness, np.ones(60, bool), 1 / FPS)).tolist() == [18, 19, 20]
    openness[10:25] = 0.1  # shut
    openness[18:21] = 0.05
    assert not find_blinks(openness, np.ones(60, bool), 1 / FPS).any()


def test_position_and_size_are_those_of_the_square() -> None:
    records = make_still()
    five = records[1].arrays["landmarks"][0]
    columns, _, _ = measure(records)
    assert columns["face_y"].mean() == pytest.approx((five[:, 1].mean() + 0.5) / HEIGHT, abs=1e-4)
    matrix = pose.fit_similarity(five, TEMPLATE)  # to an aligned face of 112 pixels
    expected = 112 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))) / HEIGHT
    assert columns["face_size"].mean() == pytest.approx(expected, rel=1e-3)
    nearer = [*records]
    nearer[1] = replace(records[1], arrays={**records[1].arrays, "landmarks": records[1].arrays["landmarks"] * 1.5})
    assert measure(nearer)[0]["face_size"].mean() == pytest.approx(1.5 * expected, rel=1e-3)


def test_nods_and_shakes_are_counted() -> None:
    beat = 8 * np.maximum(0, np.sin(2 * np.pi * 1.0 * TIMES)) * (TIMES < 4)  # 4 nods
    angles = np.column_stack([beat, np.zeros((len(TIMES), 2))])
    _, statistics, _ = measure(make_records([make_face(0.3, 8, 20)] * len(TIMES), angles))
    assert (statistics["nod.number"], statistics["shake.number"]) == (4, 0)
    assert statistics["nod.rate"] == pytest.approx(40, rel=0.01)
    turns = 12 * np.sin(2 * np.pi * TIMES) * (TIMES < 4)
    _, statistics, _ = measure(
        make_records([make_face(0.3, 8, 20)] * len(TIMES), np.column_stack([0 * beat, turns, 0 * beat]))
    )
    assert (statistics["nod.number"], statistics["shake.number"]) == (0, 8)  # four to each side


def test_looking_away_is_an_episode() -> None:
    angles = np.zeros((len(TIMES), 3))
    angles[30:60, 1] = 35
    columns, statistics, _ = measure(make_records([make_face(0.3, 8, 20)] * len(TIMES), angles))
    forward, to_camera = [-np.sin(np.radians(35)), 0, -np.cos(np.radians(35))], np.array([-20, 10, -500])
    expected = np.degrees(np.arccos(forward @ to_camera / np.linalg.norm(to_camera)))
    assert columns["off_camera"][40] == pytest.approx(expected, abs=0.1)
    assert statistics["away.number"] == 1
    assert statistics["away.fraction"] == pytest.approx(1 / 3)
    assert statistics["away.duration"] == pytest.approx(2, abs=0.01)


def test_flow_is_divided_into_upper_and_lower_face() -> None:
    records = make_still()
    field = np.zeros((29, SIDE, SIDE, 2), np.int8)
    field[:, 62:, :, 1] = 20  # 2 pixels of the aligned face per step
    records[3] = replace(records[3], arrays={**records[3].arrays, "flow": field})
    columns, statistics, _ = measure(records)
    eyes = np.linalg.norm(TEMPLATE[1] - TEMPLATE[0])
    assert statistics["lower_face_motion.mean"] == pytest.approx(2 * FPS / eyes, rel=0.03)
    assert statistics["upper_face_motion.mean"] == 0
    assert np.isnan(columns["upper_face_motion"][0])
    assert statistics["head_motion.mean"] == pytest.approx(0, abs=1e-4)


def test_head_motion_is_the_speed_of_the_five_points() -> None:
    records = make_still()
    moved = records[1].arrays["landmarks"] + (3 * np.arange(30)[:, None, None] * [1, 0]).astype(np.float32)
    records[1] = replace(records[1], arrays={**records[1].arrays, "landmarks": moved})
    columns, statistics, _ = measure(records)
    eyes = pose.frame_scale(moved[0], SIDE) * np.linalg.norm(TEMPLATE[1] - TEMPLATE[0])
    assert statistics["head_motion.mean"] == pytest.approx(3 * FPS / eyes, rel=1e-3)
    assert np.diff(columns["face_x"]) == pytest.approx(3 / WIDTH, rel=1e-3)


def test_weighted_motion_energy_image_finds_where_pixels_move() -> None:
    records = make_still()
    records[0] = make_frames(30, slice(480, 640))
    _, statistics, _ = measure(records)
    assert statistics["frame_motion.mean"] == pytest.approx(0.125, abs=0.01)
    assert statistics["motion_image.centre_x"] == pytest.approx(0.875, abs=0.01)
    assert statistics["motion_image.centre_y"] == pytest.approx(0.75, abs=0.02)
    assert statistics["motion_image.mean"] == pytest.approx(0.125, abs=0.01)
    still = measure(make_still())[1]
    assert still["frame_motion.mean"] == 0
    assert np.isnan(still["motion_image.entropy"])


def test_motion_across_a_cut_is_not_measured() -> None:
    records = make_still()
    records[0] = make_frames(30, slice(480, 640))
    cut = np.zeros(30, bool)
    cut[10] = True
    records[1] = replace(records[1], arrays={**records[1].arrays, "cut": cut})
    columns, _, _ = measure(records)
    assert np.flatnonzero(np.isnan(columns["frame_motion"])).tolist() == [0, 10]


def test_five_points_leave_out_measures_of_68_landmarks() -> None:
    columns, statistics, record = measure(make_still(points=5))
    absent = ["eye_openness", "blink", "mouth_opening", "brow_height"]
    assert json.loads(record.attributes["absent"]) == absent
    assert not [name for name in (*columns, *statistics) if name.partition(".")[0] in absent]
    assert columns["mouth_width"].mean() == pytest.approx(49.2 / 63.2, rel=0.03)
    assert {entry.name for entry in MEASURES if entry.needs} == set(absent)
    assert json.loads(measure(make_still())[2].attributes["absent"]) == []


def test_interpolated_faces_and_bad_poses_do_not_count(tmp_path: Path) -> None:
    records = make_still()
    found = records[1].arrays["found"].copy()
    found[[3, 4]] = 1, 0
    points = records[2].arrays["points"].copy()
    points[4], points[7] = np.nan, points[7] + 12 * np.random.default_rng(0).normal(size=(68, 2))
    records[1] = replace(records[1], arrays={**records[1].arrays, "found": found})
    records[2] = replace(records[2], arrays={**records[2].arrays, "points": points})
    columns, statistics, record = measure(records)
    assert np.flatnonzero(record.arrays["valid"] == 0).tolist() == [3, 4, 7]
    assert np.isnan(columns["pitch"][4])
    assert abs(columns["pitch"][7]) > 1
    assert statistics["pitch.mean"] == pytest.approx(0, abs=0.1)
    stream = base.load("behaviour")
    assert base.present_steps(record).tolist() == [step for step in range(30) if step != 4]
    assert np.array_equal(
        base.pool_steps(stream, record, False), stream.read(record, np.arange(1), "statistics")[0], equal_nan=True
    )
    assert stream.read(record, np.arange(3), "steps").shape == (3, len(columns))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shards.write_record(file, record)
    (tmp_path / "behaviour").mkdir()
    (tmp_path / "a.h5").rename(tmp_path / "behaviour/a.h5")
    (tmp_path / "behaviour" / base.ABOUT).write_text("{}")
    table = pool_vectors(tmp_path)["behaviour"]
    assert table.loc["a.mp4"].to_dict() == pytest.approx(statistics, nan_ok=True)
    summary = stream.summary(tmp_path / "behaviour")
    assert (summary["steps"], summary["valid_steps"], summary["absent"]) == (30, 27, {})


def test_statistics_of_a_column_equal_values_by_hand() -> None:
    number, event = (
        Measure("a", "m", "g", "a length"),
        Measure("b", "0 or 1", "g", "an event", ("fraction", "number", "rate", "duration")),
    )
    times = np.arange(6) / 2
    values = np.array([[0, 1], [1, 1], [2, 0], [3, 1], [np.nan, np.nan], [4, 1]])
    statistics = summarise_steps([number, event], values, times)
    known = np.array([0, 1, 2, 3, 4.0])
    assert statistics["a.mean"] == 2
    assert statistics["a.std"] == pytest.approx(known.std())
    assert (statistics["a.p10"], statistics["a.median"], statistics["a.p90"]) == pytest.approx((0.4, 2, 3.6))
    assert statistics["a.slope"] == pytest.approx(np.polyfit([0, 0.5, 1, 1.5, 2.5], known, 1)[0])
    assert statistics["b.fraction"] == pytest.approx(4 / 5)
    assert statistics["b.number"] == 3
    assert statistics["b.rate"] == pytest.approx(3 / (5 * 0.5 / 60))
    assert statistics["b.duration"] == pytest.approx((1.0 + 0.5 + 0.5) / 3)
    empty = summarise_steps([number, event], np.full((6, 2), np.nan), times)
    assert np.isnan([*empty.values()]).all()


def test_each_measure_has_statistics_and_a_unique_name() -> None:
    assert len({entry.name for entry in MEASURES}) == len(MEASURES)
    for entry in MEASURES:
        assert entry.statistics
        assert set(entry.statistics) <= set(STATISTICS)
        assert entry.by_clip or set(entry.statistics) <= set(COMPUTE)
    columns, statistics, _ = measure(make_still())
    assert [*columns] == [entry.name for entry in MEASURES if not entry.by_clip]
    names = [f"{entry.name}.{statistic}" for entry in MEASURES for statistic in entry.statistics]
    assert sorted(statistics) == sorted(names)


@pytest.mark.parametrize("stream", ["behaviour", "voice"])
def test_every_measure_has_a_test_and_a_limit(stream: str) -> None:
    measures = importlib.import_module(f"lib.streams.{stream}.measures").MEASURES
    tests = (ROOT / f"tests/test_{stream}.py").read_text().replace('head_{axis}"', 'head_x"head_y"head_z"')
    untested = {entry.name for entry in measures if not re.search(rf'\b{entry.name}[."\']', tests)}
    assert untested <= {"pitch", "yaw", "roll"}  # their test takes the names from a tuple
    page = (ROOT / "docs/reference/behaviour.md").read_text()
    part = page.split("## Stream `voice`")[stream == "voice"]
    limits = part.split("### What these measures cannot tell")[1].lower()
    words = {name: name.split("_")[-1] for name in (entry.group for entry in measures)}
    words |= {"energy": "level", "rate": "speech rate", "voice quality": "jitter"}
    assert not {group for group in {entry.group for entry in measures} if words[group] not in limits}
