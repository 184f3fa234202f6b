"""Who is followed where several faces, pictures of faces, cuts and changes of person are seen."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lib.core.shards import Record
from lib.sources.demo.head import Identity, Performance, render
from lib.streams import faces as stream
from lib.streams import frames
from lib.streams.base import Raw
from lib.streams.faces import align
from lib.streams.faces.detect import Detector, Faces
from lib.streams.faces.follow import TrackedPerson, follow
from lib.streams.faces.words import DETECTED
from lib.streams.flow import make
from tests.conftest import REAL, needs_real_clips
from tests.video_files import Track, write
from tools.benchmarks.flow import SOLVER

CPU = torch.device("cpu")
TALK = render(Identity(1), Performance(0.5, 1.5, 0.5, 2), 3.0, 5)[0]
HEIGHT, WIDTH = TALK.shape[1:3]
RNG = np.random.default_rng(0)
LOOKS = [cv2.GaussianBlur(RNG.integers(0, 255, (32, 32), np.uint8), (0, 0), 2) for _ in range(3)]
"""Those of three persons."""

Sighting = tuple[int, float, float]
"""Who is seen, where, and how large (half a side)."""


def of(
    scene: Sequence[Sequence[Sighting]], cuts: Sequence[int] = (), still: Sequence[int] = (), asked: str = "main"
) -> TrackedPerson:
    """Whom `follow` follows, 5 frames a second; all but those in `still` move their mouths."""
    seen, looks = [], []
    for time, sightings in enumerate(scene):
        boxes = np.array([[x - half, 50 - half, x + half, 50 + half] for _, x, half in sightings]).reshape(-1, 4)
        seen.append(Faces(boxes, np.ones(len(boxes)), np.zeros((len(boxes), 5, 2))))
        of_time = [LOOKS[who].copy() for who, _, _ in sightings]
        for (who, _, _), look in zip(sightings, of_time, strict=True):
            if who not in still and time % 2:
                look[20:26, 10:22] = 255 - look[20:26, 10:22]
        looks.append(np.array(of_time, np.uint8).reshape(-1, 32, 32))
    return follow(seen, looks, np.isin(np.arange(len(scene)), cuts), np.arange(len(scene)) / 5, asked)


def test_a_picture_is_followed_only_where_nobody_moves() -> None:
    beside = [[(0, 50, 20), (1, 200, 60)]] * 10
    assert of(beside, still=[1]).faces.tolist() == [0] * 10
    assert of(beside).faces.tolist() == [1] * 10
    assert of(beside, still=[0, 1]).faces.tolist() == [1] * 10
    assert of([[(1, 200, 60)]] * 10, still=[1]).faces.tolist() == [0] * 10


def test_after_a_cut_the_person_who_is_seen_longer_is_followed_however_large_the_other() -> None:
    two = of([[(0, 50, 20)]] * 7 + [[(1, 50, 30)]] * 5, cuts=[7])
    assert two.faces.tolist() == [0] * 7 + [-1] * 5
    assert np.flatnonzero(two.cuts).tolist() == [7]
    assert two.changes == 1
    turns = of(([[(0, 50, 20)]] * 4 + [[(1, 50, 20)]] * 3) * 2, cuts=[4, 7, 11])
    assert turns.faces.tolist() == ([0] * 4 + [-1] * 3) * 2
    assert turns.changes == 3


def test_one_person_is_followed_through_cuts_also_at_another_place_and_size() -> None:
    same = of([[(0, 50, 20)]] * 5 + [[(0, 150, 45), (1, 20, 10)]] * 5, cuts=[5])
    assert same.faces.tolist() == [0] * 10
    assert same.changes == 0


def test_a_cut_that_changes_nothing_but_the_face_is_found() -> None:
    found = of([[(0, 50, 20)]] * 7 + [[(1, 50, 20)]] * 5)
    assert np.flatnonzero(found.cuts).tolist() == [7]
    assert found.faces.tolist() == [0] * 7 + [-1] * 5
    assert found.changes == 1
    turned_away = of([[(0, 50, 20)]] * 5 + [[(1, 50, 20)]] + [[(0, 50, 20)]] * 5)
    assert not turned_away.cuts.any()
    assert turned_away.faces.tolist() == [0] * 11


def test_who_is_asked_for_is_followed() -> None:
    three = [[(0, 200, 20), (1, 60, 30), (2, 400, 40)]] * 20  # a portrait hangs to the right of all
    for asked, face in (("main", 1), ("left", 1), ("right", 0), ("largest", 1), ("1", 1), ("2", 0)):
        found = of(three, still=[2], asked=asked)
        assert (found.persons, found.faces.tolist()) == (2, [face] * 20), asked
    assert of(three, still=[2], asked="3").faces.tolist() == [-1] * 20
    assert of(three, asked="right").faces.tolist() == [2] * 20
    passing = [[(0, 50, 20), (1, 200, 15)]] + [[(0, 50, 20)]] * 19  # too short to be asked for
    assert of(passing, asked="right").faces.tolist() == [0] * 20
    assert of([[]] * 3, asked="left").persons == 0


def aligned(path: Path, pictures: np.ndarray, person: str | None = None) -> Record:
    """The faces stage's record of a film of these pictures, 5 a second."""
    write(path, Track(np.repeat(pictures, 3, 0), options={"crf": "18"}))
    return align.Aligner(64, Detector(40, CPU), 0.5, 1.0, 0.0, person=person)(
        frames.sample_frames(Raw("a", path, None), 5, 640, 90)
    )


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("noise", [0, 5])
def test_the_speaker_is_followed_beside_a_larger_portrait(tmp_path: Path, first: bool, noise: float) -> None:
    rng = np.random.default_rng(0)
    wall = np.full((len(TALK), HEIGHT, 2 * WIDTH, 3), 100, np.uint8)
    small = [cv2.resize(one, (WIDTH * 3 // 5, HEIGHT * 3 // 5), interpolation=cv2.INTER_AREA) for one in TALK]
    left = 0 if first else WIDTH
    wall[:, -len(small[0]) :, left : left + WIDTH * 3 // 5] = small
    portrait = render(Identity(5), Performance(-0.5, 1.0, 0.5, 3), 0.2, 5)[0][0]
    wall[:, :, WIDTH - left : 2 * WIDTH - left] = portrait
    record = aligned(tmp_path / "a.mp4", np.clip(wall + rng.normal(0, noise, wall.shape), 0, 255).astype(np.uint8))
    middles = record.arrays["landmarks"][:, 2, 0]
    assert ((left < middles) & (middles < left + WIDTH)).all()
    assert record.attributes["frames_with_several_faces"] == len(TALK)
    assert record.attributes["changes_of_person"] == 0
    assert stream.warnings(record) == ["faces: several in 15 of 15 frames; one person is tracked"]


@needs_real_clips
@pytest.mark.parametrize(("frames_of_one", "followed"), [(12, 0), (6, 1)])
def test_of_two_real_people_the_one_who_is_shown_longer(tmp_path: Path, frames_of_one: int, followed: int) -> None:
    pictures = []
    for name, count in (("0ObEtA6Q8vU.004.mp4", frames_of_one), ("6KKNrufnL80.000.mp4", 18 - frames_of_one)):
        shots = frames.decode_all_frames(frames.sample_frames(Raw(name, REAL / name, None), 5, 640, 90))[:count]
        pictures += [cv2.resize(shot, (640, 360)) for shot in shots]
    record = aligned(tmp_path / "a.mp4", np.stack(pictures))
    there = np.arange(18) < frames_of_one if followed == 0 else np.arange(18) >= frames_of_one
    assert ((record.arrays["found"] > 0) == there).all()
    assert np.flatnonzero(record.arrays["cut"]).tolist() == [frames_of_one]
    assert record.attributes["changes_of_person"] == 1
    assert len(stream.warnings(record)) == 2


@needs_real_clips
def test_a_jump_cut_keeps_the_person_and_has_no_flow(tmp_path: Path) -> None:
    name = "0ObEtA6Q8vU.004.mp4"
    shots = frames.decode_all_frames(frames.sample_frames(Raw(name, REAL / name, None), 5, 640, 90))
    near = np.stack([cv2.resize(shot[20:380, 80:560], shot.shape[1::-1]) for shot in shots[50:60]])
    record = aligned(tmp_path / "a.mp4", np.concatenate([shots[:10], near]))
    assert (record.arrays["found"] == DETECTED).all()
    assert np.flatnonzero(record.arrays["cut"]).tolist() == [10]
    assert record.attributes["changes_of_person"] == 0
    flow = make.compute_flow(record, "torch", SOLVER, 16.0, CPU)
    assert np.flatnonzero(~flow.arrays["valid"]).tolist() == [9]
    assert not flow.arrays["flow"][9].any()
