"""Which person is tracked in videos with several faces, portraits, cuts and changes of person."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lib.core.shards import Record
from lib.core.weight_files import find_file
from lib.sources.demo.head import Identity, Performance, render
from lib.streams import faces as stream
from lib.streams import frames
from lib.streams.base import Raw
from lib.streams.faces import align
from lib.streams.faces.align import describe_faces
from lib.streams.faces.constants import DETECTED
from lib.streams.faces.detect import Detector, Faces
from lib.streams.faces.follow import TrackedPerson, follow
from lib.streams.faces.frame import Frame
from lib.streams.faces.mtcnn import load_networks
from lib.streams.faces.sface import SFace
from lib.streams.faces.track import Tracker
from lib.streams.faces.tracks import Identify
from lib.streams.flow import make
from tests.conftest import REAL, needs_real_clips
from tests.video_files import Track, write_video_file
from tools.benchmarks._flow import SOLVER

CPU = torch.device("cpu")
TALKING_HEAD = render(Identity(1), Performance(0.5, 1.5, 0.5, 2), 3.0, 5)[0]
HEIGHT, WIDTH = TALKING_HEAD.shape[1:3]
RNG = np.random.default_rng(0)
APPEARANCES = [cv2.GaussianBlur(RNG.integers(0, 255, (32, 32), np.uint8), (0, 0), 2) for _ in range(3)]
"""Face images of three persons."""

Sighting = tuple[int, float, float]
"""Person, horizontal position, and half the side of the face."""


def follow_scene(
    scene: Sequence[Sequence[Sighting]],
    cuts: Sequence[int] = (),
    still: Sequence[int] = (),
    person: str = "main",
    identify: Identify | None = None,
) -> TrackedPerson:
    """Return the person that `follow` tracks at 5 frames per second. Persons not in `still` move their mouths."""
    detections, thumbnails = [], []
    for time, sightings in enumerate(scene):
        boxes = np.array([[x - half, 50 - half, x + half, 50 + half] for _, x, half in sightings]).reshape(-1, 4)
        detections.append(Faces(boxes, np.ones(len(boxes)), np.zeros((len(boxes), 5, 2))))
        thumbnails_of_frame = [APPEARANCES[number].copy() for number, _, _ in sightings]
        for (number, _, _), thumbnail in zip(sightings, thumbnails_of_frame, strict=True):
            if number not in still and time % 2:
                thumbnail[20:26, 10:22] = 255 - thumbnail[20:26, 10:22]
        thumbnails.append(np.array(thumbnails_of_frame, np.uint8).reshape(-1, 32, 32))
    times = np.arange(len(scene)) / 5
    return follow(detections, thumbnails, np.isin(np.arange(len(scene)), cuts), times, person, identify)


def test_follow_tracks_a_portrait_only_if_no_face_moves() -> None:
    scene = [[(0, 50, 20), (1, 200, 60)]] * 10
    assert follow_scene(scene, still=[1]).faces.tolist() == [0] * 10
    assert follow_scene(scene).faces.tolist() == [1] * 10
    assert follow_scene(scene, still=[0, 1]).faces.tolist() == [1] * 10
    assert follow_scene([[(1, 200, 60)]] * 10, still=[1]).faces.tolist() == [0] * 10


def test_follow_tracks_the_person_visible_longer_across_cuts() -> None:
    one_cut = follow_scene([[(0, 50, 20)]] * 7 + [[(1, 50, 30)]] * 5, cuts=[7])
    assert one_cut.faces.tolist() == [0] * 7 + [-1] * 5
    assert np.flatnonzero(one_cut.cuts).tolist() == [7]
    assert one_cut.changes == 1
    three_cuts = follow_scene(([[(0, 50, 20)]] * 4 + [[(1, 50, 20)]] * 3) * 2, cuts=[4, 7, 11])
    assert three_cuts.faces.tolist() == ([0] * 4 + [-1] * 3) * 2
    assert three_cuts.changes == 3


def test_follow_tracks_a_person_across_a_cut_by_appearance() -> None:
    same = follow_scene([[(0, 50, 20)]] * 5 + [[(0, 150, 45), (1, 20, 10)]] * 5, cuts=[5])
    assert same.faces.tolist() == [0] * 10
    assert same.changes == 0


def test_person_who_turns_after_a_jump_cut_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = [[(0, 50, 20)]] * 8 + [[(1, 50, 20)]] * 6  # 1: another pose of the same person
    monkeypatch.setattr(
        "lib.streams.faces.tracks._MIN_LIKENESS", -1.0
    )  # a head turns more slowly than from one frame to the next
    turned = follow_scene(scene, cuts=[6])
    assert turned.faces.tolist() == [0] * 14
    assert (turned.changes, turned.persons) == (0, 1)
    other = follow_scene(scene, cuts=[8])
    assert other.faces.tolist() == [0] * 8 + [-1] * 6
    assert other.changes == 1


def test_embeddings_replace_looks_across_cuts() -> None:
    # after the cut, another person has the looks of the first
    scene = [[(0, 50, 20)]] * 6 + [[(1, 50, 20), (0, 150, 20)]] * 5
    vectors = np.array([[1.0, 0, 0], [0, 1, 0]])
    embedded: list[tuple[int, int]] = []

    def follow_persons(persons: Sequence[Sequence[int]], cuts: Sequence[int]) -> TrackedPerson:
        def identify(sightings: Sequence[tuple[int, int]]) -> np.ndarray:
            embedded.extend(sightings)
            scale = np.linspace(1, 9, len(sightings))[:, None]
            return scale * (vectors[[persons[time][face] for time, face in sightings]] + 0.2)

        return follow_scene(scene, cuts=cuts, identify=identify)

    by_looks = follow_scene(scene, cuts=[6])
    assert by_looks.faces.tolist() == [0] * 6 + [1] * 5
    by_embedding = follow_persons([[0]] * 6 + [[0, 1]] * 5, cuts=[6])
    assert by_embedding.faces.tolist() == [0] * 11
    assert len(embedded) == len({*embedded}) == 15  # five faces of each of three tracks
    untracked = follow_persons([[0]] * 6 + [[1, 1]] * 5, cuts=[6])
    assert untracked.faces.tolist() == [0] * 6 + [-1] * 5

    def fail(sightings: Sequence[tuple[int, int]]) -> np.ndarray:
        raise AssertionError("faces of one shot are compared by position alone")

    assert follow_scene([[(0, 50, 20)]] * 6, identify=fail).faces.tolist() == [0] * 6


@needs_real_clips
@pytest.mark.skipif(not find_file("sface").is_file(), reason="run python -m tools.weights sface")
def test_sface_finds_a_person_again_after_another_shot() -> None:
    shots = []
    for name, start in (("0ObEtA6Q8vU.004.mp4", 0), ("6KKNrufnL80.000.mp4", 0), ("0ObEtA6Q8vU.004.mp4", 60)):
        record = frames.sample_frames(Raw(name, REAL / name, None), 5, 640, 90)
        samples = frames.decode_frames(record, np.arange(start, start + 6))
        shots.append([cv2.resize(image, (640, 360)) for image in samples])
    shots[2] = [image[:, ::-1] // 2 for image in shots[2]]  # mirrored and darker
    images = [Frame(np.ascontiguousarray(image)) for shot in shots for image in shot]
    times = np.arange(18) / 5
    faces = Tracker(Detector(40, load_networks(CPU)), 1.0)([images], times)
    identify = align.make_identify(SFace(None, "test"), faces, [images])
    tracked = follow(faces, *describe_faces(faces, [images]), times, identify=identify)
    assert (tracked.faces >= 0).tolist() == [True] * 6 + [False] * 6 + [True] * 6


def test_follow_finds_a_cut_that_changes_only_the_face() -> None:
    tracked = follow_scene([[(0, 50, 20)]] * 7 + [[(1, 50, 20)]] * 5)
    assert np.flatnonzero(tracked.cuts).tolist() == [7]
    assert tracked.faces.tolist() == [0] * 7 + [-1] * 5
    assert tracked.changes == 1
    turned_away = follow_scene([[(0, 50, 20)]] * 5 + [[(1, 50, 20)]] + [[(0, 50, 20)]] * 5)
    assert not turned_away.cuts.any()
    assert turned_away.faces.tolist() == [0] * 11


def test_follow_tracks_the_chosen_person() -> None:
    three = [[(0, 200, 20), (1, 60, 30), (2, 400, 40)]] * 20  # person 2 is a portrait, at the far right
    for person, face in (("main", 1), ("left", 1), ("right", 0), ("largest", 1), ("1", 1), ("2", 0)):
        tracked = follow_scene(three, still=[2], person=person)
        assert (tracked.persons, tracked.faces.tolist()) == (2, [face] * 20), person
    assert follow_scene(three, still=[2], person="3").faces.tolist() == [-1] * 20
    assert follow_scene(three, person="right").faces.tolist() == [2] * 20
    scene_with_passer = [[(0, 50, 20), (1, 200, 15)]] + [
        [(0, 50, 20)]
    ] * 19  # person 1 is visible too briefly to be chosen
    assert follow_scene(scene_with_passer, person="right").faces.tolist() == [0] * 20
    assert follow_scene([[]] * 3, person="left").persons == 0


def align_faces(path: Path, images: np.ndarray, person: str | None = None) -> Record:
    """Return the record of the faces stage for a video of these images at 5 frames per second."""
    write_video_file(path, Track(np.repeat(images, 3, 0), options={"crf": "18"}))
    return align.Aligner(64, Detector(40, load_networks(CPU)), 0.5, 1.0, 0.0, person=person)(
        frames.sample_frames(Raw("a", path, None), 5, 640, 90)
    )


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("noise", [0, 5])
def test_speaker_is_tracked_next_to_a_larger_portrait(tmp_path: Path, first: bool, noise: float) -> None:
    rng = np.random.default_rng(0)
    wall = np.full((len(TALKING_HEAD), HEIGHT, 2 * WIDTH, 3), 100, np.uint8)
    small = [
        cv2.resize(frame, (WIDTH * 3 // 5, HEIGHT * 3 // 5), interpolation=cv2.INTER_AREA) for frame in TALKING_HEAD
    ]
    left = 0 if first else WIDTH
    wall[:, -len(small[0]) :, left : left + WIDTH * 3 // 5] = small
    portrait = render(Identity(5), Performance(-0.5, 1.0, 0.5, 3), 0.2, 5)[0][0]
    wall[:, :, WIDTH - left : 2 * WIDTH - left] = portrait
    record = align_faces(tmp_path / "a.mp4", np.clip(wall + rng.normal(0, noise, wall.shape), 0, 255).astype(np.uint8))
    middles = record.arrays["landmarks"][:, 2, 0]
    assert ((left < middles) & (middles < left + WIDTH)).all()
    assert record.attributes["frames_with_several_faces"] == len(TALKING_HEAD)
    assert record.attributes["changes_of_person"] == 0
    assert stream.warnings(record) == ["faces: several in 15 of 15 frames; one person is tracked"]


@needs_real_clips
@pytest.mark.parametrize(("first_frames", "tracked"), [(12, 0), (6, 1)])
@pytest.mark.slow
def test_longer_visible_of_two_real_persons_is_tracked(tmp_path: Path, first_frames: int, tracked: int) -> None:
    images = []
    for name, count in (("0ObEtA6Q8vU.004.mp4", first_frames), ("6KKNrufnL80.000.mp4", 18 - first_frames)):
        samples = frames.decode_all_frames(frames.sample_frames(Raw(name, REAL / name, None), 5, 640, 90))[:count]
        images += [cv2.resize(shot, (640, 360)) for shot in samples]
    record = align_faces(tmp_path / "a.mp4", np.stack(images))
    is_tracked = np.arange(18) < first_frames if tracked == 0 else np.arange(18) >= first_frames
    assert ((record.arrays["found"] > 0) == is_tracked).all()
    assert np.flatnonzero(record.arrays["cut"]).tolist() == [first_frames]
    assert record.attributes["changes_of_person"] == 1
    assert stream.warnings(record)[1:] == ["faces: the face changes once, perhaps to another person"]


@pytest.mark.slow
@needs_real_clips
def test_jump_cut_keeps_the_person_and_has_no_flow(tmp_path: Path) -> None:
    name = "0ObEtA6Q8vU.004.mp4"
    shots = frames.decode_all_frames(frames.sample_frames(Raw(name, REAL / name, None), 5, 640, 90))
    near = np.stack([cv2.resize(shot[20:380, 80:560], shot.shape[1::-1]) for shot in shots[50:60]])
    record = align_faces(tmp_path / "a.mp4", np.concatenate([shots[:10], near]))
    assert (record.arrays["found"] == DETECTED).all()
    assert np.flatnonzero(record.arrays["cut"]).tolist() == [10]
    assert record.attributes["changes_of_person"] == 0
    flow = make.compute_flow(record, "torch", SOLVER, 16.0, CPU)
    assert np.flatnonzero(~flow.arrays["valid"]).tolist() == [9]
    assert not flow.arrays["flow"][9].any()


@pytest.mark.slow
def test_one_of_four_faces_in_a_gallery_is_tracked(tmp_path: Path) -> None:
    heads = [render(Identity(number), Performance(0.5, 1.5, 0.5, number), 2.0, 5)[0] for number in (1, 2, 3, 4)]
    gallery = np.concatenate([np.concatenate(heads[:2], 2), np.concatenate(heads[2:], 2)], 1)
    record = align_faces(tmp_path / "a.mp4", gallery, person="main")
    assert stream.warnings(record) == ["faces: several in 10 of 10 frames; one of 4 persons is tracked"]
    noses = record.arrays["landmarks"][:, 2]
    assert np.ptp(noses, axis=0).max() < WIDTH / 4  # it stays in one tile
    others = [align_faces(tmp_path / "a.mp4", gallery, person=str(number)) for number in (1, 2, 3, 4)]
    assert len({tuple((other.arrays["landmarks"][0, 2] > (WIDTH, HEIGHT)).tolist()) for other in others}) == 4
    assert "person 5 requested, 4 visible" in align_faces(tmp_path / "a.mp4", gallery, person="5").rejected


@pytest.mark.parametrize("cover", ["subtitles", "mask"])
def test_faces_with_subtitles_or_a_mask_are_tracked(tmp_path: Path, cover: str) -> None:
    plain = align_faces(tmp_path / "plain.mp4", TALKING_HEAD).arrays["landmarks"]
    covered = TALKING_HEAD.copy()
    for frame, points in zip(covered, plain.round().astype(int), strict=True):
        if cover == "mask":
            cv2.fillConvexPoly(frame, points[[2, 4, 3]] + np.array([[0, 2], [8, 12], [-8, 12]]), (180, 210, 235))
        else:
            cv2.putText(frame, "I said: no", (4, HEIGHT - 12), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 3)
    record = align_faces(tmp_path / "covered.mp4", covered)
    assert (record.arrays["found"] == DETECTED).all()
    eyes = np.linalg.norm(record.arrays["landmarks"][:, :2] - plain[:, :2], axis=-1)
    assert np.median(eyes) < 3  # pixels
