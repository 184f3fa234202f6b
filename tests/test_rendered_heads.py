"""Head pose of a textured 3D head that is rendered with known angles, through the real detector and landmarks."""

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from scipy.interpolate import RBFInterpolator

from lib.core.parameters import check
from lib.core.shards import Record
from lib.streams import base
from lib.streams._extraction import extract_clip
from lib.streams.behaviour import pose
from tests.conftest import ROOT
from tools.parameters import merge_parameters, plain

WIDTH, HEIGHT, FPS = 640, 480, 15
CAMERA = pose.camera_matrix(WIDTH, HEIGHT, 0.78)
_OUTLINE = {
    (0, -100): 5,
    (0, 95): -25,
    (-78, -20): 45,
    (78, -20): 45,
    (-60, 60): 25,
    (60, 60): 25,
    (-55, -85): 25,
    (55, -85): 25,
}
"""Edge of the face on the 3D head: x and y in mm -> z."""


@cache
def make_head() -> tuple[np.ndarray, np.ndarray]:
    """Return points (N, 3) in mm on a smooth surface through the 3D face, and their colours (N, 3), from a photograph."""
    solid = np.vstack([pose.POINTS[68][1], pose.POINTS[5][1][:2], [[x, y, z] for (x, y), z in _OUTLINE.items()]])
    x, y = np.meshgrid(np.arange(-80, 80.1, 0.5), np.arange(-105, 100.1, 0.5))
    inside = (x / 80) ** 2 + ((y + 3) / 103) ** 2 < 1
    flat = np.column_stack([x[inside], y[inside]])
    depth = RBFInterpolator(solid[:, :2], solid[:, 2], smoothing=1.0)(flat)
    to_photograph = RBFInterpolator(pose.POINTS[5][1][:, :2], find_photograph_points())
    in_photograph = to_photograph(np.column_stack([x.ravel(), y.ravel()])).reshape(*x.shape, 2).astype(np.float32)
    colours = cv2.remap(skimage.data.astronaut(), in_photograph, None, cv2.INTER_LINEAR)
    return np.column_stack([flat, depth]), colours[inside]


def find_photograph_points() -> np.ndarray:
    record = extract_faces([skimage.data.astronaut()[:400, :400]])
    return record.arrays["landmarks"][0].astype(float)


def render_head(angles: np.ndarray) -> np.ndarray:
    """Return an image (HEIGHT, WIDTH, 3) of the head 450 mm in front of the camera; nearer points hide farther ones."""
    points, colours = make_head()
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    pitch, yaw, roll = (
        cv2.Rodrigues(axis * np.radians(angle))[0] for axis, angle in zip(np.eye(3), angles, strict=True)
    )
    depth = points @ (pitch @ yaw @ roll)[2]
    order = np.argsort(-depth)
    x, y = pose.project(points[order], angles, np.array([0, 0, 450.0]), CAMERA).astype(int).T
    is_inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    image[y[is_inside], x[is_inside]] = colours[order][is_inside]
    return cv2.medianBlur(image, 3)


def make_frames(images: list[np.ndarray]) -> Record:
    coded = [cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for image in images]
    offsets = np.cumsum([0, *map(len, coded)])
    return Record("a.mp4", {"jpeg": np.concatenate(coded), "offsets": offsets, "times": np.arange(len(images)) / FPS})


def make_extractor(name: str, *changes: str) -> Any:
    section = plain(merge_parameters("behaviour", list(changes)))[name]
    return base.load(name).make_extractor(check(section, base.load(name).settings, name))


def extract_faces(images: list[np.ndarray]) -> Record:
    return extract_clip(make_extractor("faces"), [make_frames(images)])


def measure_angles(images: list[np.ndarray], detector: str) -> tuple[np.ndarray, np.ndarray]:
    """Return pitch, yaw and roll (T, 3) of each image by the streams faces, landmarks and behaviour, and which are valid."""
    frames = make_frames(images)
    faces = extract_clip(make_extractor("faces"), [frames])
    landmarks = extract_clip(make_extractor("landmarks", f"landmarks.detector={detector}"), [faces])
    side, steps = faces.arrays["faces"].shape[1], len(images) - 1
    still = {"flow": np.zeros((steps, side, side, 2), np.int8), "valid": np.zeros(steps, bool)}
    record = extract_clip(
        make_extractor("behaviour"), [frames, faces, landmarks, Record("a.mp4", still, {"scale": 0.1})]
    )
    assert not record.rejected, record.rejected
    names = base.read_names(record)["steps"]
    return record.arrays["steps"][:, [names.index(name) for name in ("pitch", "yaw", "roll")]], record.arrays[
        "valid"
    ] == 1


STATED = {"faces": [2.2, 2.6, 1.0], "dlib": [1.2, 0.7, 0.4]}
"""Mean errors of pitch, yaw and roll in docs/reference/behaviour.md."""


def make_sequence() -> np.ndarray:
    """Return angles (T, 3): a nod of 15 degrees, a turn of 25 and a tilt of 20 to both sides."""
    angles = np.zeros((27, 3))
    for axis, largest in enumerate((15, 25, 20)):
        angles[9 * axis : 9 * axis + 9, axis] = largest * np.sin(np.linspace(0, 2 * np.pi, 9))
    return angles


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [render_head(angles) for angles in make_sequence()]


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["faces", "dlib"])
def test_angles_of_rendered_heads_are_within_3_degrees(images: list[np.ndarray], detector: str) -> None:
    if detector == "dlib":
        pytest.importorskip("dlib", reason="requirements-dlib.txt is not installed")
    measured, valid = measure_angles(images, detector)
    assert valid.all()
    errors = np.abs(measured - make_sequence()).mean(0)
    assert errors.mean() <= 3
    assert errors == pytest.approx(STATED[detector], abs=0.5)
    text = " ".join((ROOT / "docs/reference/behaviour.md").read_text().split())
    assert "{}, {} and {}".format(*STATED[detector]) in text
    for axis in range(3):  # the angle that changes is the one that is found
        moved = np.ptp(measured[9 * axis : 9 * axis + 9], axis=0)
        assert moved.argmax() == axis
