"""All persons of a clip: kept apart when they leave and return, and who speaks, in clips composed of known parts."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lib.core.shards import Record
from lib.core.weight_files import find_file
from lib.media.audio import read_audio
from lib.media.writing import write_video
from lib.sources.demo.head import SAMPLE_RATE
from lib.streams import base, frames
from lib.streams._activity import detect_by_energy
from lib.streams.base import RAW, Raw
from lib.streams.faces.align import Aligner
from lib.streams.faces.detect import Detector, Faces
from lib.streams.faces.everyone import EveryoneTracker
from lib.streams.faces.mtcnn import load_networks
from lib.streams.faces.persons import find_persons
from lib.streams.faces.sface import SFace
from lib.streams.faces.speakers import NO_SPEAKER, find_speakers
from tests.conftest import REAL, needs_real_clips
from tests.test_follow import APPEARANCES, Sighting
from tests.video_files import write_conversation

CPU, FPS = torch.device("cpu"), 10
TURNS = [0, 1, 2, NO_SPEAKER, 1, 0]
"""Who speaks in each 1.5 s of the composed clip; the voice is silent in the fourth."""


def find_in_scene(scene: Sequence[Sequence[Sighting]], cuts: Sequence[int] = (), embed: bool = False) -> np.ndarray:
    """Return the persons that `find_persons` finds at 5 frames per second, as the number of each frame's person or -1."""
    detections, thumbnails = [], []
    for time, sightings in enumerate(scene):
        boxes = np.array([[x - half, 50 - half, x + half, 50 + half] for _, x, half in sightings]).reshape(-1, 4)
        detections.append(Faces(boxes, np.ones(len(boxes)), np.zeros((len(boxes), 5, 2))))
        thumbnails_of_frame = [APPEARANCES[0 if embed else number].copy() for number, _, _ in sightings]
        for thumbnail in thumbnails_of_frame:
            thumbnail[20:26, 10:22] = 255 - thumbnail[20:26, 10:22] if time % 2 else thumbnail[20:26, 10:22]
        thumbnails.append(np.array(thumbnails_of_frame, np.uint8).reshape(-1, 32, 32))

    def identify(sightings: Sequence[tuple[int, int]]) -> np.ndarray:
        return np.eye(3)[[scene[time][face][0] for time, face in sightings]] + 0.1

    times = np.arange(len(scene)) / 5
    cut = np.isin(np.arange(len(scene)), cuts)
    persons = find_persons(detections, thumbnails, cut, times, identify if embed else None).faces
    numbers = [
        [scene[time][face][0] if face >= 0 else -1 for time, face in enumerate(of_person)] for of_person in persons
    ]
    return np.array(numbers)


@pytest.mark.parametrize("embed", [False, True])
def test_persons_who_leave_and_return_are_kept_apart(embed: bool) -> None:
    both, first, second = [(0, 50, 20), (1, 200, 20)], [(0, 60, 20)], [(1, 60, 20)]
    # the first leaves; the second takes the place; both leave; the first returns at another place
    scene = [both] * 10 + [[(1, 200, 20)]] * 10 + [second] * 10 + [[]] * 10 + [[(0, 300, 25)]] * 10 + [first] * 5
    found = find_in_scene(scene, embed=embed)
    assert [sorted({*of_person.tolist()} - {-1}) for of_person in found] in ([[0], [1]], [[1], [0]])
    assert sorted((of_person >= 0).sum() for of_person in found) == [25, 30]


def test_persons_are_found_again_after_a_cut() -> None:
    scene = [[(0, 50, 20), (1, 200, 20)]] * 10 + [[(1, 50, 20)]] * 8 + [[(1, 50, 30), (0, 200, 30)]] * 10
    for embed in (False, True):
        found = find_in_scene(scene, cuts=[10, 18], embed=embed)
        assert [sorted({*of_person.tolist()} - {-1}) for of_person in found] == [[1], [0]]
        assert [(of_person >= 0).sum() for of_person in found] == [28, 20]


def test_short_gap_is_bridged_by_place() -> None:
    scene = [[(0, 50, 20)]] * 10 + [[]] * 3 + [[(0, 60, 22)]] * 10
    assert len(find_in_scene(scene)) == 1
    assert len(find_in_scene([[]] * 4)) == 0


def test_speaker_is_the_person_whose_mouth_moves() -> None:
    lips, speech = np.full((2, 40), 0.3), np.ones(40, bool)
    lips[0, :20], lips[1, 20:] = 1.8, 2.0
    lips[1, 8], lips[0, 12:14] = 3.0, np.nan  # a smile, and a lost face
    speech[17:19] = False
    speakers = find_speakers(lips, speech, np.arange(40) / 5)
    assert speakers.tolist() == [0] * 17 + [NO_SPEAKER] * 2 + [0] + [1] * 20
    assert (find_speakers(lips, np.zeros(40, bool), np.arange(40) / 5) == NO_SPEAKER).all()
    assert (find_speakers(np.full((2, 40), 0.3), speech, np.arange(40) / 5) == NO_SPEAKER).all()  # a voice off camera
    fast = find_speakers(np.repeat(lips, 5, 1), np.repeat(speech, 5), np.arange(200) / 25)
    assert (fast[::5] == speakers).mean() > 0.97


def track(path: Path, person: str | None = None, identity: SFace | None = None) -> tuple[Record, Record]:
    """Return the record of all persons of a clip, and that of the main person alone."""
    raw = Raw("a", path, None)
    record = frames.sample_frames(raw, 5, 960, 95)
    aligner = Aligner(32, Detector(40, load_networks(CPU)), 0.5, 1.0, 1.0, person=person, identity=identity)
    return EveryoneTracker(aligner, detect_by_energy)(record, raw), aligner(record)


@pytest.mark.slow
def test_speakers_by_turns_are_found(tmp_path: Path) -> None:
    truth = write_conversation(tmp_path / "a.mp4", TURNS, 9.0, FPS)
    everyone, main = track(tmp_path / "a.mp4")
    assert everyone.attributes["persons"] == 3
    assert everyone.arrays["persons.landmarks"].shape == (45, 3, 5, 2)
    noses = np.nanmedian(everyone.arrays["persons.landmarks"][:, :, 2, 0], axis=0)
    assert (noses // 320).tolist() == [0, 1, 2]
    speaks = everyone.arrays["persons.speaks"]
    found = np.where(speaks.any(1), speaks.argmax(1), NO_SPEAKER)
    times = everyone.arrays["times"]
    assert (found == truth[(times * FPS).astype(int)]).mean() >= 0.95
    for name in main.arrays:
        np.testing.assert_array_equal(everyone.arrays[name], main.arrays[name])
    assert {key: everyone.attributes[key] for key in main.attributes} == dict(main.attributes)
    of_main = everyone.arrays["persons.landmarks"][:, everyone.attributes["main_person"]]
    np.testing.assert_array_equal(of_main, main.arrays["landmarks"])


def test_inputs_of_faces_depend_on_persons() -> None:
    stream = base.load("faces")
    assert stream.inputs_of({}) == stream.inputs_of({"persons": "main"}) == ("frames",)
    assert stream.inputs_of({"persons": "all"}) == ("frames", RAW)


def sway(image: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return frames of a silent person: an image that turns, moves and has noise."""
    height, width = image.shape[:2]
    swayed = np.empty((count, *image.shape), np.uint8)
    for index in range(count):
        time = index / 5
        matrix = cv2.getRotationMatrix2D(
            (width / 2, height / 2), 1.5 * np.sin(1.1 * time), 1 + 0.02 * np.sin(0.7 * time)
        )
        matrix[:, 2] += 4 * np.sin(0.9 * time), 3 * np.sin(1.3 * time)
        moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        swayed[index] = np.clip(moved + rng.normal(0, 3, image.shape), 0, 255)
    return swayed


@needs_real_clips
@pytest.mark.slow
@pytest.mark.parametrize("identity", ["none", "sface"])
def test_real_speakers_by_turns_are_found(tmp_path: Path, identity: str) -> None:
    if identity == "sface" and not find_file("sface").is_file():
        pytest.skip("run python -m tools.weights sface")
    rng, speaker, parts, voice = np.random.default_rng(0), (np.arange(75) // 15) % 2, [], []
    for person, name in enumerate(("0ObEtA6Q8vU.004.mp4", "6KKNrufnL80.000.mp4")):
        record = frames.sample_frames(Raw(name, REAL / name, None), 5, 640, 95)
        video = np.stack([cv2.resize(frame, (480, 360)) for frame in frames.decode_frames(record, np.arange(75))])
        last, shown = 0, []
        for turn in range(5):
            talks = turn % 2 == person
            shown.append(video[last : last + 15] if talks else sway(video[max(last - 1, 0)], 15, rng))
            last += 15 * talks
        parts.append(np.concatenate(shown))
        voice.append(read_audio(REAL / name, SAMPLE_RATE)[1][: 15 * SAMPLE_RATE])
    who = np.repeat(speaker, SAMPLE_RATE // 5)
    write_video(tmp_path / "a.mp4", np.concatenate(parts, 2), 5, np.where(who == 0, *voice), SAMPLE_RATE)
    everyone, _ = track(tmp_path / "a.mp4", identity=SFace(None, "test") if identity == "sface" else None)
    assert everyone.attributes["persons"] == 2
    speaks = everyone.arrays["persons.speaks"].astype(bool)
    heard = speaks.any(1)  # pauses within turns have no speaker
    assert (speaks.argmax(1) == speaker)[heard].mean() >= 0.95
    assert heard.mean() > 0.8


def test_conversation_has_the_voice_of_the_speaker(tmp_path: Path) -> None:
    truth = write_conversation(tmp_path / "a.mp4", [0, NO_SPEAKER], 1.0, FPS)
    _, samples = read_audio(tmp_path / "a.mp4", SAMPLE_RATE)
    half = SAMPLE_RATE // 2
    assert np.abs(samples[: half - 800]).mean() > 50 * np.abs(samples[half + 1600 :]).mean()
    assert truth.tolist() == [0] * 5 + [NO_SPEAKER] * 5
