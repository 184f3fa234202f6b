"""Align the tracked face to a fixed five-point template by a similarity transform for each frame."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from lib.core.shards import Record
from lib.streams import frames
from lib.streams.faces.detect import BATCH, Detector, Faces
from lib.streams.faces.follow import TrackedPerson, follow
from lib.streams.faces.frame import Frame
from lib.streams.faces.looks import SIDE
from lib.streams.faces.track import Tracker, find_cuts
from lib.streams.faces.words import ABSENT, DETECTED, INTERPOLATED, MAIN

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eyes, nose and mouth corners in a picture of 112 x 112 pixels (Deng et al. 2019, ArcFace)."""

_KEPT = 128 * 2**20  # bytes of a clip's first frames that are decoded once only


class Aligner:
    """From frames to aligned faces of `side` pixels; detects faces in a frame of every `key_seconds`, and tracks them in
    between (0: detects in every frame).

    A clip in which the face is detected in less than the fraction `min_found` of the frames is rejected; gaps of up to
    `max_gap` seconds between two detections are bridged by linear interpolation of the five points. person: one of ASKED;
    None: the main person, and the record has no attribute `persons`.
    """

    def __init__(
        self,
        side: int,
        detector: Detector,
        min_found: float,
        max_gap: float,
        key_seconds: float,
        person: str | None = None,
    ) -> None:
        self._side, self._min_found, self._max_gap, self._person = side, min_found, max_gap, person
        self._track = Tracker(detector, key_seconds)

    def __call__(self, record: Record) -> Record:
        """Return of a clip's frames `faces` uint8 (T, S, S, 3), `landmarks` (T, 5, 2) in the frame's pixels, `found`
        (T,) with the values above, `cut` (T,), whether another shot begins, and `times` (T,); where the face is absent,
        faces are black and landmarks NaN."""
        times = record.arrays["times"]
        batches = _Batches(record)
        faces_by_frame = self._track(batches, times)
        followed = choose_person(faces_by_frame, batches, times, self._person or MAIN)
        if self._person and self._person.isdecimal() and int(self._person) > followed.persons:
            return Record(
                record.clip, refused=f"faces: person {self._person} is asked for, {followed.persons} are seen"
            )
        landmarks, found = interpolate(
            *take_landmarks(faces_by_frame, followed.faces), times, followed.cuts, self._max_gap
        )
        share = float((found == DETECTED).mean())
        if share < self._min_found or share == 0:
            return Record(
                record.clip,
                refused=f"faces: found in {share:.0%} of the frames, faces.min_found is {self._min_found:.0%}",
            )
        faces = np.zeros((len(times), self._side, self._side, 3), np.uint8)
        for index, frame in enumerate(frame for batch in batches for frame in batch):
            if found[index]:
                faces[index] = warp(frame, landmarks[index], self._side)
        arrays: dict[str, np.ndarray] = {
            "faces": faces,
            "landmarks": landmarks.astype(np.float32),
            "found": found,
            "cut": followed.cuts,
            "times": times,
        }
        counts = {
            "frames_with_several_faces": int(sum(len(detected.boxes) > 1 for detected in faces_by_frame)),
            "cuts": int(followed.cuts.sum()),
            "changes_of_person": followed.changes,
        }
        if self._person is not None:
            counts["persons"] = followed.persons
        return Record(record.clip, arrays, counts)


class _Batches:
    """A record's frames in batches of up to BATCH, to be gone through more than once: all of them may be gigabytes, so that
    only the first ones are kept."""

    def __init__(self, record: Record) -> None:
        self._record, self._kept = record, list[list[Frame]]()

    def __iter__(self) -> Iterator[list[Frame]]:
        yield from self._kept
        total = len(self._record.arrays["times"])
        for start in range(BATCH * len(self._kept), total, BATCH):
            steps = np.arange(start, min(start + BATCH, total))
            batch = [Frame(pixels) for pixels in frames.decode_frames(self._record, steps)]
            if (
                start == BATCH * len(self._kept)
                and sum(frame.pixels.nbytes for frame in batch) * (len(self._kept) + 1) <= _KEPT
            ):
                self._kept.append(batch)
            yield batch


def choose_person(
    seen: Sequence[Faces], batches: Iterable[Sequence[Frame]], times: np.ndarray, asked: str = MAIN
) -> TrackedPerson:
    """Return whom to follow, as `follow` has it, among the faces of a clip's frames, given in batches."""
    looks: list[np.ndarray] = []
    cut: list[np.ndarray] = []
    last: list[Frame] = []
    for batch in batches:
        cut.append(find_cuts([*last, *batch])[len(last) :])
        last = [batch[-1]]
        for frame in batch:
            aligned = [warp(frame, points, SIDE) for points in seen[len(looks)].points]
            grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in aligned]
            looks.append(np.stack(grey) if grey else np.empty((0, SIDE, SIDE), np.uint8))
    return follow(seen, looks, np.concatenate(cut), times, asked)


def take_landmarks(seen: Sequence[Faces], face_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the followed person's landmarks (T, 5, 2), NaN where not seen, and whether they were detected (T,); `face_of`
    (T,) is their face in each frame, or -1."""
    landmarks = np.full((len(seen), 5, 2), np.nan)
    for time, face in enumerate(face_of.tolist()):
        if face >= 0:
            landmarks[time] = seen[time].points[face]
    return landmarks, face_of >= 0


def interpolate(
    landmarks: np.ndarray, detected: np.ndarray, times: np.ndarray, cut: np.ndarray, max_gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fill gaps of up to `max_gap` seconds between detections of one shot; return landmarks (T, 5, 2) and `found` (T,)
    uint8."""
    landmarks = landmarks.copy()
    found = np.where(detected, DETECTED, ABSENT).astype(np.uint8)
    known_steps = np.flatnonzero(detected)
    for before, after in zip(known_steps[:-1], known_steps[1:], strict=True):
        if after - before > 1 and times[after] - times[before] <= max_gap and not cut[before + 1 : after + 1].any():
            for time in range(before + 1, after):
                share = (times[time] - times[before]) / (times[after] - times[before])
                landmarks[time] = (1 - share) * landmarks[before] + share * landmarks[after]
            found[before + 1 : after] = INTERPOLATED
    return landmarks, found


def warp(frame: Frame, points: np.ndarray, size: int) -> np.ndarray:
    """Return the picture (size, size, 3) in which the five points lie nearest to the template's."""
    return frame.resampled(fit_similarity(points, TEMPLATE * (size / 112)), size)


def fit_similarity(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the similarity transform (2, 3) that brings points (P, 2) nearest to others (least squares; Umeyama 1991)."""
    middle, other_middle = points.mean(0), others.mean(0)
    flat, other_flat = (
        (group - group_middle) @ [1, 1j] for group, group_middle in ((points, middle), (others, other_middle))
    )
    turn = np.vdot(flat, other_flat) / np.vdot(flat, flat).real  # in the complex plane it is one factor
    matrix = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([matrix, other_middle - matrix @ middle])
