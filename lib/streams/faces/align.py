"""Align the tracked face in each frame to a fixed five-point template by a similarity transform."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from lib.core.face_template import TEMPLATE as TEMPLATE
from lib.core.records import Record
from lib.media import jpeg_frames
from lib.streams.faces.constants import ABSENT, DETECTED, INTERPOLATED, MAIN
from lib.streams.faces.detect import BATCH, Detector, Faces
from lib.streams.faces.follow import follow
from lib.streams.faces.frame import Frame
from lib.streams.faces.thumbnails import SIDE
from lib.streams.faces.track import Tracker, find_cuts
from lib.streams.faces.tracks import Identify

if TYPE_CHECKING:  # few models recognise persons
    from lib.streams.faces.sface import SFace

_CACHE_BYTES = 128 * 2**20  # limit of the decoded frames of a clip that stay in memory


class PersonTrack(NamedTuple):
    """A person's face in T frames: landmarks (T, 5, 2) in pixels of the frame, NaN if absent; states (T,), ABSENT,
    INTERPOLATED or DETECTED; and cuts (T,), whether a new shot begins."""

    landmarks: np.ndarray
    states: np.ndarray
    cuts: np.ndarray


class Detected(NamedTuple):
    """All faces of a clip: its frames in batches, the faces of each frame, their thumbnails (`describe_faces`), whether each
    frame begins a new shot (T,), and the function that embeds faces, or None."""

    batches: Iterable[Sequence[Frame]]
    faces: Sequence[Faces]
    thumbnails: list[np.ndarray]
    cut: np.ndarray
    identify: Identify | None


class Aligner:
    """Turns a clip's frames into aligned faces of `side` pixels.

    Faces are detected every `key_seconds` and tracked in between; 0 detects in every frame. A clip is rejected if its face
    is detected in less than the fraction `min_found` of the frames. Gaps of up to `max_gap` seconds between two detections
    are filled by linear interpolation of the five points. person: one of PERSON_CHOICES, or None for the main person; then
    the record has no attribute `persons`. identity: the network that recognises a person after a cut; None for small grey
    images.
    """

    def __init__(
        self,
        side: int,
        detector: Detector,
        min_found: float,
        max_gap: float,
        key_seconds: float,
        person: str | None = None,
        identity: "SFace | None" = None,
    ) -> None:
        self._side, self._min_found, self._max_gap, self._person = side, min_found, max_gap, person
        self._track, self._identity = Tracker(detector, key_seconds), identity

    def __call__(self, record: Record) -> Record:
        """Return the tracked face in a clip's frames.

        faces: uint8 (T, S, S, 3), black if absent. landmarks: (T, 5, 2) in pixels of the frame, NaN if absent. found: (T,),
        ABSENT, INTERPOLATED or DETECTED. cut: (T,), whether a new shot begins. times: (T,) in seconds.
        """
        return self.align_one(record, self.detect(record))

    def detect(self, record: Record) -> Detected:
        """Return all faces in a clip's frames."""
        batches = _Batches(record)
        faces_by_frame = self._track(batches, record.arrays["times"])
        identify = make_identify(self._identity, faces_by_frame, batches) if self._identity else None
        return Detected(batches, faces_by_frame, *describe_faces(faces_by_frame, batches), identify)

    def align_one(self, record: Record, detected: Detected) -> Record:
        """Return the record of the person to track, given all faces."""
        times, faces_by_frame = record.arrays["times"], detected.faces
        tracked = follow(
            faces_by_frame, detected.thumbnails, detected.cut, times, self._person or MAIN, identify=detected.identify
        )
        if self._person and self._person.isdecimal() and int(self._person) > tracked.persons:
            return Record(record.clip, rejected=f"faces: person {self._person} requested, {tracked.persons} visible")
        track = self.fill_gaps(detected, tracked.faces, tracked.cuts, times)
        counts = {
            "frames_with_several_faces": int(sum(len(detected.boxes) > 1 for detected in faces_by_frame)),
            "cuts": int(tracked.cuts.sum()),
            "changes_of_person": tracked.changes,
        }
        if self._person is not None:
            counts["persons"] = tracked.persons
        return self.warp_track(record, track, counts, detected.batches)

    def fill_gaps(self, detected: Detected, face_of: np.ndarray, cuts: np.ndarray, times: np.ndarray) -> PersonTrack:
        """Return a person's track with interpolated gaps, given the index of the face in each frame (T,), or -1."""
        landmarks, found = take_landmarks(detected.faces, face_of)
        return PersonTrack(*interpolate(landmarks, found, times, cuts, self._max_gap), cuts)

    def warp_track(
        self,
        record: Record,
        track: PersonTrack,
        attributes: dict[str, Any],
        batches: Iterable[Sequence[Frame]] | None = None,
    ) -> Record:
        """Return the record of a person, given where the face is. batches: the frames, if they are decoded already."""
        states = track.states
        fraction = float((states == DETECTED).mean())
        if fraction < self._min_found or fraction == 0:
            return Record(
                record.clip,
                rejected=f"faces: found in {fraction:.0%} of the frames, faces.min_found is {self._min_found:.0%}",
            )
        faces = np.zeros((len(states), self._side, self._side, 3), np.uint8)
        for index, frame in enumerate(frame for batch in batches or _Batches(record) for frame in batch):
            if states[index]:
                faces[index] = warp(frame, track.landmarks[index], self._side)
        arrays: dict[str, np.ndarray] = {
            "faces": faces,
            "landmarks": track.landmarks.astype(np.float32),
            "found": states,
            "cut": track.cuts,
            "times": record.arrays["times"],
        }
        return Record(record.clip, arrays, attributes)


class _Batches:
    """Iterates, any number of times, over a record's frames in batches of up to BATCH.

    The first batches stay in memory; later ones are decoded again, because all frames of a clip can take gigabytes.
    """

    def __init__(self, record: Record) -> None:
        self._record, self._cached = record, list[list[Frame]]()

    def __iter__(self) -> Iterator[list[Frame]]:
        yield from self._cached
        total = len(self._record.arrays["times"])
        for start in range(BATCH * len(self._cached), total, BATCH):
            steps = np.arange(start, min(start + BATCH, total))
            batch = [Frame(pixels) for pixels in jpeg_frames.decode_frames(self._record, steps)]
            if (
                start == BATCH * len(self._cached)
                and sum(frame.pixels.nbytes for frame in batch) * (len(self._cached) + 1) <= _CACHE_BYTES
            ):
                self._cached.append(batch)
            yield batch


def describe_faces(
    faces_by_frame: Sequence[Faces], batches: Iterable[Sequence[Frame]]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the thumbnails of each frame's faces, T of (n, S, S), and whether each frame begins a new shot (T,).

    faces_by_frame: all faces of a clip's frames. batches: the frames in batches.
    """
    thumbnails: list[np.ndarray] = []
    cut: list[np.ndarray] = []
    last: list[Frame] = []
    for batch in batches:
        cut.append(find_cuts([*last, *batch])[len(last) :])
        last = [batch[-1]]
        for frame in batch:
            aligned = [warp(frame, points, SIDE) for points in faces_by_frame[len(thumbnails)].points]
            grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in aligned]
            thumbnails.append(np.stack(grey) if grey else np.empty((0, SIDE, SIDE), np.uint8))
    return thumbnails, np.concatenate(cut)


def make_identify(network: "SFace", faces_by_frame: Sequence[Faces], batches: Iterable[Sequence[Frame]]) -> Identify:
    """Return a function that embeds faces of a clip's frames."""

    def identify(sightings: Sequence[tuple[int, int]]) -> np.ndarray:
        images: dict[tuple[int, int], np.ndarray] = {}
        for time, frame in enumerate(frame for batch in batches for frame in batch):
            for sighting in sightings:
                if sighting[0] == time:
                    images[sighting] = warp(frame, faces_by_frame[time].points[sighting[1]], network.SIDE)
        return network(np.stack([images[sighting] for sighting in sightings]))

    return identify


def take_landmarks(faces_by_frame: Sequence[Faces], face_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tracked person's landmarks (T, 5, 2), NaN where the face is not visible, and whether it was detected (T,).

    face_of: (T,), the index of the person's face in each frame, or -1.
    """
    landmarks = np.full((len(faces_by_frame), 5, 2), np.nan)
    for time, face in enumerate(face_of.tolist()):
        if face >= 0:
            landmarks[time] = faces_by_frame[time].points[face]
    return landmarks, face_of >= 0


def interpolate(
    landmarks: np.ndarray, detected: np.ndarray, times: np.ndarray, cut: np.ndarray, max_gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fill gaps of up to `max_gap` seconds between detections within a shot.

    Returns landmarks (T, 5, 2), and the states (T,), uint8: ABSENT, INTERPOLATED or DETECTED.
    """
    landmarks = landmarks.copy()
    states = np.where(detected, DETECTED, ABSENT).astype(np.uint8)
    detected_steps = np.flatnonzero(detected)
    for before, after in zip(detected_steps[:-1], detected_steps[1:], strict=True):
        if after - before > 1 and times[after] - times[before] <= max_gap and not cut[before + 1 : after + 1].any():
            for time in range(before + 1, after):
                weight = (times[time] - times[before]) / (times[after] - times[before])
                landmarks[time] = (1 - weight) * landmarks[before] + weight * landmarks[after]
            states[before + 1 : after] = INTERPOLATED
    return landmarks, states


def warp(frame: Frame, points: np.ndarray, size: int) -> np.ndarray:
    """Return the aligned image (size, size, 3), in which the five points are as close to the template as possible."""
    return frame.resampled(fit_similarity(points, TEMPLATE * (size / 112)), size)


def fit_similarity(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the similarity transform (2, 3) that maps points (P, 2) to `others` (least squares; Umeyama 1991)."""
    middle, other_middle = points.mean(0), others.mean(0)
    flat, other_flat = (
        (group - group_middle) @ [1, 1j] for group, group_middle in ((points, middle), (others, other_middle))
    )
    turn = np.vdot(flat, other_flat) / np.vdot(flat, flat).real  # rotation and scale are one complex factor
    matrix = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([matrix, other_middle - matrix @ middle])
