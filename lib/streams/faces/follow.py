"""Choose the person to track in a clip with several faces, cuts, and people who come and go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib.streams.faces.detect import Faces
from lib.streams.faces.looks import MIN_LIKENESS, average_looks, compute_likeness, measure_motion
from lib.streams.faces.words import MAIN

_SAME_FACE = 0.3  # least intersection over union of a face's boxes in consecutive sightings
_SIZE_RATIO = 2.0  # a face that was lost and found again is at most this much larger or smaller ...
_DISTANCE = 1.5  # ... and at most this many face widths away
_LIVELY = 1.4  # motion from which on a person counts in full; half of it counts a sixteenth
_LEAST = 0.01  # what a person without motion counts
_LIVING = 0.25  # what a living person counts at least
_UNLIKE = 0.6  # likeness below which a face has become another person's in its place ...
_AROUND = 5  # ... over this many sightings before and after
_STRIDE = 0.2  # seconds between the sightings by which motion is measured
_SEEN = 0.1  # fraction of the frames with faces in which a person must be visible to be chosen by `asked`


class TrackedPerson(NamedTuple):
    """The tracked person of a clip with T frames.

    faces: (T,) the index of the person's face in each frame, -1 where it is not visible. cuts: (T,) whether a frame begins a
    new shot, or shows another person's face in the same place. changes: number of changes between frames that show the
    person and frames that show another living person instead. persons: number of persons who can be chosen.
    """

    faces: np.ndarray
    cuts: np.ndarray
    changes: int
    persons: int


@dataclass
class _Track:
    """Sightings of a face: frames in rising order, and the index of the face in each frame."""

    times: list[int]
    faces: list[int]

    def looks(self, of: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([of[time][face] for time, face in zip(self.times, self.faces, strict=True)])


class _Person:
    """The tracks of one person."""

    def __init__(self, length: int) -> None:
        self.faces = np.full(length, -1)
        self.sightings, self.sum = 0, np.zeros(())

    def take(self, track: _Track, look: np.ndarray) -> None:
        self.faces[track.times] = track.faces
        self.sightings, self.sum = self.sightings + len(track.times), self.sum + len(track.times) * look


def follow(
    frames: Sequence[Faces], looks: Sequence[np.ndarray], cut: np.ndarray, times: np.ndarray, asked: str = MAIN
) -> TrackedPerson:
    """Return the main person of a clip's frames (T) at `times` (T,), or the person that `asked`, one of ASKED, chooses.

    looks: T of (n, S, S), the small grey images of each frame's faces. cut: (T,) whether a frame begins a new shot.

    Boxes are linked over time by overlap (Hungarian assignment), not across cuts. Tracks at different times belong to one
    person if they are near each other and of similar size within a shot, or look similar in different shots. The main person
    is the largest and longest visible: the sum of area times detection score, relative to the largest of each shot, weighted
    by motion, so that an image of a face is tracked only if no person moves. `asked` chooses among persons who move and are
    visible in a tenth of the frames with faces; for a number beyond these no face is tracked.
    """
    tracks = _linked(frames, cut)
    sudden = _become_others(tracks, looks, len(frames))
    if sudden.any():
        cut = cut | sudden
        tracks = _linked(frames, cut)
    persons, shots = list[_Person](), np.cumsum(cut)
    sizes = _sizes(frames, shots)
    tracks.sort(key=lambda track: -sum(sizes[time][face] for time, face in zip(track.times, track.faces, strict=True)))
    for track in tracks:
        look = average_looks(track.looks(looks))
        same = (person for person in persons if _is_of(person, track, look, frames, shots))
        person = next(same, None)
        if person is None:
            persons.append(person := _Person(len(frames)))
        person.take(track, look)
    if not persons:
        return TrackedPerson(np.full(len(frames), -1), cut, 0, 0)
    stride = max(1, round(_STRIDE / float(np.median(np.diff(times))))) if len(times) > 1 else 1
    alone = len(persons) == 1  # no other person to distinguish
    life = [1.0 if alone else _life(person.faces, looks, cut, stride) for person in persons]
    size = [sum(sizes[time][person.faces[time]] for time in np.flatnonzero(person.faces >= 0)) for person in persons]
    order = np.argsort(-np.multiply(size, life), kind="stable")
    least = _SEEN * sum(len(faces.boxes) > 0 for faces in frames)
    candidates = [
        persons[index].faces
        for rank, index in enumerate(order)
        if rank == 0 or (life[index] >= _LIVING and (persons[index].faces >= 0).sum() >= least)
    ]
    main = _asked(candidates, frames, asked)
    others = [person.faces >= 0 for person, liveliness in zip(persons, life, strict=True) if liveliness >= _LIVING]
    instead = np.any(others, axis=0) & (main < 0) if others else np.zeros(len(frames), bool)
    visible = (main >= 0)[(main >= 0) | instead]
    return TrackedPerson(main, cut, int((visible[1:] != visible[:-1]).sum()), len(candidates))


def _asked(persons: Sequence[np.ndarray], frames: Sequence[Faces], asked: str) -> np.ndarray:
    """Return the faces (T,) of the person that `asked` chooses among `persons`, the main one first; -1 everywhere for a
    number beyond them."""
    if asked == MAIN:
        return persons[0]
    boxes = [
        np.stack([faces.boxes[at] for faces, at in zip(frames, faces_of_person, strict=True) if at >= 0])
        for faces_of_person in persons
    ]
    if asked == "largest":
        return persons[
            int(
                np.argmax(
                    [
                        np.prod(faces_of_person[:, 2:] - faces_of_person[:, :2], axis=1).mean()
                        for faces_of_person in boxes
                    ]
                )
            )
        ]
    from_left = np.argsort([np.median(faces_of_person[:, [0, 2]]) for faces_of_person in boxes], kind="stable")
    index = {"left": 0, "right": len(persons) - 1}.get(asked)
    index = int(asked) - 1 if index is None else index
    return persons[from_left[index]] if index < len(persons) else np.full(len(frames), -1)


def _linked(frames: Sequence[Faces], cut: np.ndarray) -> list[_Track]:
    """Return the tracks of all faces. Tracks end at cuts."""
    done: list[_Track] = []
    tracks: list[_Track] = []
    for time, faces in enumerate(frames):
        if cut[time]:
            done, tracks = done + tracks, []
        last = [frames[track.times[-1]].boxes[track.faces[-1]] for track in tracks]
        overlap = np.array([[_overlap(before, box) for box in faces.boxes] for before in last])
        linked: set[int] = set()
        for track, face in _assigned(overlap):
            if overlap[track, face] >= _SAME_FACE:
                tracks[track].times.append(time)
                tracks[track].faces.append(int(face))
                linked.add(int(face))
        tracks += [_Track([time], [face]) for face in range(len(faces.boxes)) if face not in linked]
    return done + tracks


def _assigned(overlap: np.ndarray) -> Iterable[tuple[int, int]]:
    """Return the pairs of a row and a column whose sum is largest (Hungarian assignment)."""
    if overlap.size <= 1:
        return [(0, 0)] * overlap.size
    from scipy.optimize import (
        linear_sum_assignment,
    )  # imported late: predictions of clips with one face start sooner without it

    return zip(*linear_sum_assignment(-overlap), strict=True)


def _become_others(tracks: Sequence[_Track], looks: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return (T,) whether a track continues as another person in a frame: a cut that changes little but the face."""
    found = np.zeros(length, bool)
    for track in tracks:
        of = track.looks(looks)
        for at in range(1, len(of)):
            before, after = of[max(at - _AROUND, 0) : at], of[at : at + _AROUND]
            if (
                compute_likeness(average_looks(before[-1:]), average_looks(after[:1])) < _UNLIKE
                and min(len(before), len(after)) > 1
            ):
                found[track.times[at]] |= compute_likeness(average_looks(before), average_looks(after)) < _UNLIKE
    return found


def _sizes(frames: Sequence[Faces], shots: np.ndarray) -> list[np.ndarray]:
    """Return each frame's faces' areas times scores (T of (n,)), in units of the largest in the shot; `shots` (T,) rise."""
    sizes = [np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1) * faces.scores for faces in frames]
    largest = np.full(shots[-1] + 1, 1e-9)
    np.maximum.at(largest, shots, [areas.max(initial=0) for areas in sizes])
    return [areas / largest[shot] for areas, shot in zip(sizes, shots, strict=True)]


def _life(person: np.ndarray, looks: Sequence[np.ndarray], cut: np.ndarray, stride: int) -> float:
    """Return from _LEAST to 1 how much a person counts by their motion within shots; `person` (T,) are their faces."""
    motions = []
    for shot in np.split(np.arange(len(cut)), np.flatnonzero(cut)):
        visible = [time for time in shot[::stride].tolist() if person[time] >= 0]
        motions += [
            measure_motion([looks[time][person[time]] for time in pair])
            for pair in zip(visible, visible[1:], strict=False)
        ]
    return min(max((float(np.median(motions)) / _LIVELY) ** 4, _LEAST), 1.0) if motions else _LEAST


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])) - common)


def _is_of(person: _Person, track: _Track, look: np.ndarray, frames: Sequence[Faces], shots: np.ndarray) -> bool:
    """Return whether a track can belong to a person: at other times, and similar in mean look, or near and of similar size
    where the two are closest in time within a shot."""
    if (person.faces[track.times] >= 0).any():
        return False
    visible, times = np.flatnonzero(person.faces >= 0), np.array(track.times)
    after = np.searchsorted(visible, times).clip(1, len(visible) - 1) if len(visible) > 1 else np.zeros(len(times), int)
    nearest = np.where(
        abs(visible[after - 1] - times) <= abs(visible[after] - times), visible[after - 1], visible[after]
    )
    index = int(np.argmin(abs(nearest - times)))
    before, now = int(nearest[index]), track.times[index]
    if shots[before] != shots[now]:
        return compute_likeness(person.sum, look) >= MIN_LIKENESS
    box, other_box = frames[before].boxes[person.faces[before]], frames[now].boxes[track.faces[index]]
    width, other_width = box[2] - box[0], other_box[2] - other_box[0]
    distance = np.linalg.norm(box[:2] + box[2:] - other_box[:2] - other_box[2:]) / 2
    return bool(1 / _SIZE_RATIO < width / other_width < _SIZE_RATIO and distance < _DISTANCE * width)
