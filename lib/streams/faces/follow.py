"""Choose the person to track in a clip with several faces, cuts, and persons who enter and leave."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib.streams.faces.detect import Faces
from lib.streams.faces.looks import (
    MIN_BEST_LIKENESS,
    MIN_LIKENESS,
    average_looks,
    compute_likeness,
    find_best_likeness,
    measure_motion,
)
from lib.streams.faces.words import MAIN

_SAME_FACE = 0.3  # lowest intersection over union of a face's boxes in consecutive sightings
_SIZE_RATIO = 2.0  # largest change of size of a face that was lost and found again ...
_DISTANCE = 1.5  # ... and its largest distance in face widths
_LIVELY = 1.4  # motion that gives a person the full weight; half of it gives a sixteenth (4th power)
_LEAST = 0.01  # weight of a person without motion
_LIVING = 0.25  # lowest weight of a living person
_UNLIKE = 0.6  # a lower likeness means that another person has taken the face's place ...
_AROUND = 5  # ... in this number of sightings before and after
_STRIDE = 0.2  # seconds between the sightings for the measurement of motion
_COMPARED = 20  # number of a track's looks, evenly spaced, that are compared with those of other tracks
_IDENTIFIED = 5  # number of a track's faces, evenly spaced, whose embeddings are averaged
_SAME_PERSON = 0.5
"""Lowest cosine similarity of mean SFace embeddings of one person before and after a cut. It lies halfway between the
medians of clips of one video (0.744) and of two videos (0.269) of First Impressions V2."""
_SEEN = 0.1  # lowest fraction of the frames with faces in which a selectable person is visible


Identify = Callable[[Sequence[tuple[int, int]]], np.ndarray]
"""Returns embeddings (n, D) of faces, given as n pairs of frame and index of the face in the frame."""


class TrackedPerson(NamedTuple):
    """The tracked person of a clip with T frames.

    faces: (T,) the index of the person's face in each frame, -1 where it is not visible. cuts: (T,) whether a frame begins a
    new shot, or shows another person's face in the same place. changes: number of switches between frames that show the
    person and frames that show another living person instead. persons: number of persons who can be selected.
    """

    faces: np.ndarray
    cuts: np.ndarray
    changes: int
    persons: int


@dataclass
class _Track:
    """Sightings of a face: frames in rising order, and the index of the face in each frame. embedding (D,): the sum of its
    sampled embeddings of length 1; None without `identify`."""

    times: list[int]
    faces: list[int]
    embedding: np.ndarray | None = None

    def looks(self, looks_by_frame: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([looks_by_frame[time][face] for time, face in zip(self.times, self.faces, strict=True)])


class _Person:
    """The tracks of one person."""

    def __init__(self, length: int) -> None:
        self.faces = np.full(length, -1)
        self.sum = np.zeros(())
        self.embedding = np.zeros(())
        self.compared: list[np.ndarray] = []

    def take(self, track: _Track, looks: np.ndarray) -> None:
        self.faces[track.times] = track.faces
        self.sum = self.sum + len(looks) * average_looks(looks)
        self.compared.append(_sample(looks))
        if track.embedding is not None:
            self.embedding = self.embedding + track.embedding

    def looks_like(self, track: _Track, looks: np.ndarray) -> bool:
        """Return whether a track on the other side of a cut can be this person's: by its embedding, or without one by its
        looks, which are similar on average or in one pose."""
        if track.embedding is not None:
            return compute_likeness(self.embedding, track.embedding) >= _SAME_PERSON
        if compute_likeness(self.sum, average_looks(looks)) >= MIN_LIKENESS:
            return True
        return find_best_likeness(np.concatenate(self.compared), _sample(looks)) >= MIN_BEST_LIKENESS


def follow(
    frames: Sequence[Faces],
    looks: Sequence[np.ndarray],
    cut: np.ndarray,
    times: np.ndarray,
    person_choice: str = MAIN,
    identify: Identify | None = None,
) -> TrackedPerson:
    """Return the person to track in a clip's frames (T) at `times` (T,): the main person, or another of ASKED.

    looks: T of (n, S, S), the small grey images of each frame's faces. cut: (T,) whether a frame begins a new shot.
    identify: embeds faces, so that persons are compared across cuts by embeddings in place of looks.

    Boxes are linked over time by overlap (Hungarian assignment), not across cuts. Tracks at different times belong to one
    person if they are near each other and of similar size within a shot, or look similar in different shots. The main person
    is the largest and longest visible: the sum of area times detection score, relative to the largest of each shot, weighted
    by motion, so that an image of a face is tracked only if no person moves. `person_choice` selects among the persons who
    move and are visible in a tenth of the frames with faces; no face is tracked if the number exceeds theirs.
    """
    tracks = _linked(frames, cut)
    sudden = _become_others(tracks, looks, len(frames))
    if sudden.any():
        cut = cut | sudden
        tracks = _linked(frames, cut)
    if identify and cut.any():
        _embed_tracks(tracks, identify)
    persons, shots = list[_Person](), np.cumsum(cut)
    sizes = _sizes(frames, shots)
    tracks.sort(key=lambda track: -sum(sizes[time][face] for time, face in zip(track.times, track.faces, strict=True)))
    for track in tracks:
        of_track = track.looks(looks)
        same = (person for person in persons if _is_of(person, track, of_track, frames, shots))
        person = next(same, None)
        if person is None:
            persons.append(person := _Person(len(frames)))
        person.take(track, of_track)
    if not persons:
        return TrackedPerson(np.full(len(frames), -1), cut, 0, 0)
    stride = max(1, round(_STRIDE / float(np.median(np.diff(times))))) if len(times) > 1 else 1
    is_only_person = len(persons) == 1  # no other person to distinguish
    life = [1.0 if is_only_person else _life(person.faces, looks, cut, stride) for person in persons]
    size = [sum(sizes[time][person.faces[time]] for time in np.flatnonzero(person.faces >= 0)) for person in persons]
    order = np.argsort(-np.multiply(size, life), kind="stable")
    least = _SEEN * sum(len(faces.boxes) > 0 for faces in frames)
    candidates = [
        persons[index].faces
        for rank, index in enumerate(order)
        if rank == 0 or (life[index] >= _LIVING and (persons[index].faces >= 0).sum() >= least)
    ]
    main = _asked(candidates, frames, person_choice)
    others = [person.faces >= 0 for person, liveliness in zip(persons, life, strict=True) if liveliness >= _LIVING]
    others_visible = np.any(others, axis=0) & (main < 0) if others else np.zeros(len(frames), bool)
    visible = (main >= 0)[(main >= 0) | others_visible]
    return TrackedPerson(main, cut, int((visible[1:] != visible[:-1]).sum()), len(candidates))


def _asked(persons: Sequence[np.ndarray], frames: Sequence[Faces], person_choice: str) -> np.ndarray:
    """Return the faces (T,) of the selected person; -1 everywhere if its number exceeds the number of persons.

    persons: the faces (T,) of each person, the main person first.
    """
    if person_choice == MAIN:
        return persons[0]
    boxes = [
        np.stack([faces.boxes[face] for faces, face in zip(frames, faces_of_person, strict=True) if face >= 0])
        for faces_of_person in persons
    ]
    if person_choice == "largest":
        areas = [np.prod(own_boxes[:, 2:] - own_boxes[:, :2], axis=1).mean() for own_boxes in boxes]
        return persons[int(np.argmax(areas))]
    from_left = np.argsort([np.median(own_boxes[:, [0, 2]]) for own_boxes in boxes], kind="stable")
    index = {"left": 0, "right": len(persons) - 1}.get(person_choice)
    index = int(person_choice) - 1 if index is None else index
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


def _embed_tracks(tracks: Sequence[_Track], identify: Identify) -> None:
    """Set the embedding of each track."""
    sampled = [
        np.unique(np.linspace(0, len(track.times) - 1, _IDENTIFIED).round().astype(int)).tolist() for track in tracks
    ]
    sightings = [
        (track.times[index], track.faces[index])
        for track, indices in zip(tracks, sampled, strict=True)
        for index in indices
    ]
    embeddings = identify(sightings)
    units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
    ends = np.cumsum([len(indices) for indices in sampled])[:-1]
    for track, of_track in zip(tracks, np.split(units, ends), strict=True):
        track.embedding = of_track.sum(0)


def _assigned(overlap: np.ndarray) -> Iterable[tuple[int, int]]:
    """Return the pairs of row and column with the largest total overlap (Hungarian assignment)."""
    if overlap.size <= 1:
        return [(0, 0)] * overlap.size
    # imported late, because clips with one face do not need it
    from scipy.optimize import linear_sum_assignment

    return zip(*linear_sum_assignment(-overlap), strict=True)


def _become_others(tracks: Sequence[_Track], looks: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return (T,) whether a track continues with another person's face in a frame: a cut that changes only the face."""
    changed = np.zeros(length, bool)
    for track in tracks:
        track_looks = track.looks(looks)
        for index in range(1, len(track_looks)):
            before, after = track_looks[max(index - _AROUND, 0) : index], track_looks[index : index + _AROUND]
            if (
                compute_likeness(average_looks(before[-1:]), average_looks(after[:1])) < _UNLIKE
                and min(len(before), len(after)) > 1
            ):
                changed[track.times[index]] |= compute_likeness(average_looks(before), average_looks(after)) < _UNLIKE
    return changed


def _sizes(frames: Sequence[Faces], shots: np.ndarray) -> list[np.ndarray]:
    """Return area times score of each face (T of (n,)), relative to the largest in its shot; `shots` (T,) are numbers."""
    sizes = [np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1) * faces.scores for faces in frames]
    largest = np.full(shots[-1] + 1, 1e-9)
    np.maximum.at(largest, shots, [areas.max(initial=0) for areas in sizes])
    return [areas / largest[shot] for areas, shot in zip(sizes, shots, strict=True)]


def _life(person: np.ndarray, looks: Sequence[np.ndarray], cut: np.ndarray, stride: int) -> float:
    """Return a person's weight, from _LEAST to 1, by the motion within shots. person: (T,), the indices of the faces."""
    motions = []
    for shot in np.split(np.arange(len(cut)), np.flatnonzero(cut)):
        visible = [time for time in shot[::stride].tolist() if person[time] >= 0]
        motions += [
            measure_motion([looks[time][person[time]] for time in pair])
            for pair in zip(visible, visible[1:], strict=False)
        ]
    return min(max((float(np.median(motions)) / _LIVELY) ** 4, _LEAST), 1.0) if motions else _LEAST


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])) - common)


def _sample(looks: np.ndarray) -> np.ndarray:
    return looks[np.unique(np.linspace(0, len(looks) - 1, _COMPARED).round().astype(int))]


def _is_of(person: _Person, track: _Track, looks: np.ndarray, frames: Sequence[Faces], shots: np.ndarray) -> bool:
    """Return whether a track can belong to a person.

    The track must have other times than the person. At the two sightings that are closest in time, it must be near and of
    similar size if they are in the same shot; otherwise the looks must be similar.
    """
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
        return person.looks_like(track, looks)
    box, other_box = frames[before].boxes[person.faces[before]], frames[now].boxes[track.faces[index]]
    width, other_width = box[2] - box[0], other_box[2] - other_box[0]
    distance = np.linalg.norm(box[:2] + box[2:] - other_box[:2] - other_box[2:]) / 2
    return bool(1 / _SIZE_RATIO < width / other_width < _SIZE_RATIO and distance < _DISTANCE * width)
