"""Follow one person through a clip in which several faces may be seen, come and go, and shots change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib.streams.faces.detect import Faces
from lib.streams.faces.looks import MIN_LIKENESS, average_looks, compute_likeness, measure_motion
from lib.streams.faces.words import MAIN

_SAME_FACE = 0.3  # least intersection over union of a face's boxes in consecutive sightings
_SIZE_RATIO = 2.0  # a face that was lost and found again is at most this much larger or smaller ...
_DISTANCE = 1.5  # ... and at most so many face widths away
_LIVELY = 1.4  # motion from which on a person counts in full; half of it counts a sixteenth
_LEAST = 0.01  # what a person without motion counts
_LIVING = 0.25  # what a living person counts at least
_UNLIKE = 0.6  # likeness below which a face has become another person's in its place ...
_AROUND = 5  # ... over so many sightings before and after
_STRIDE = 0.2  # seconds between the sightings that motion is seen in
_SEEN = 0.1  # of the frames with faces: in fewer nobody is seen who could be asked for


class TrackedPerson(NamedTuple):
    """The person who is followed. faces: (T,) the index of their face in each frame, -1 where it is not seen. cuts: (T,)
    whether a frame shows another shot, or in a face's place another's, than the frame before. changes: how often frames that
    show them and frames that show another living person instead take turns. persons: how many could be asked for."""

    faces: np.ndarray
    cuts: np.ndarray
    changes: int
    persons: int


@dataclass
class _Track:
    """Sightings of a face: frames, rising, and which of the frame's faces it is."""

    times: list[int]
    faces: list[int]

    def looks(self, of: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([of[time][face] for time, face in zip(self.times, self.faces, strict=True)])


class _Person:
    """Tracks that are one person's."""

    def __init__(self, length: int) -> None:
        self.faces = np.full(length, -1)
        self.sightings, self.sum = 0, np.zeros(())

    def take(self, track: _Track, look: np.ndarray) -> None:
        self.faces[track.times] = track.faces
        self.sightings, self.sum = self.sightings + len(track.times), self.sum + len(track.times) * look


def follow(
    frames: Sequence[Faces], looks: Sequence[np.ndarray], cut: np.ndarray, times: np.ndarray, asked: str = MAIN
) -> TrackedPerson:
    """Return the main person, or the one of ASKED, of a clip's frames (T) at `times` (T,), whose faces have `looks` (T of
    (n, S, S)); `cut` (T,) tells which frames show another shot than the one before.

    Boxes are linked over time by overlap (Hungarian assignment), not across cuts. Tracks of one shot that are near and alike
    in size and at other times are one person's, of different shots those that look alike. The main person is the one who is
    largest and seen longest: the sum of area times detection score, of each shot in units of its largest. It counts as much
    as the person moves, so that a picture is followed only where nobody moves. Others can be asked for who move and are seen
    in a tenth of the frames with faces; where there is no Nth, nobody is followed.
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
    alone = len(persons) == 1  # then nobody is to be told from
    life = [1.0 if alone else _life(person.faces, looks, cut, stride) for person in persons]
    size = [sum(sizes[time][person.faces[time]] for time in np.flatnonzero(person.faces >= 0)) for person in persons]
    order = np.argsort(-np.multiply(size, life), kind="stable")
    least = _SEEN * sum(len(faces.boxes) > 0 for faces in frames)
    there = [
        persons[at].faces
        for rank, at in enumerate(order)
        if rank == 0 or (life[at] >= _LIVING and (persons[at].faces >= 0).sum() >= least)
    ]
    main = _asked(there, frames, asked)
    others = [person.faces >= 0 for person, its in zip(persons, life, strict=True) if its >= _LIVING]
    instead = np.any(others, axis=0) & (main < 0) if others else np.zeros(len(frames), bool)
    shown = (main >= 0)[(main >= 0) | instead]
    return TrackedPerson(main, cut, int((shown[1:] != shown[:-1]).sum()), len(there))


def _asked(persons: Sequence[np.ndarray], frames: Sequence[Faces], asked: str) -> np.ndarray:
    """Return the one of the persons (each (T,), their faces; the main one first) who is asked for, -1 everywhere for a
    number that nobody has."""
    if asked == MAIN:
        return persons[0]
    boxes = [np.stack([one.boxes[at] for one, at in zip(frames, of, strict=True) if at >= 0]) for of in persons]
    if asked == "largest":
        return persons[int(np.argmax([np.prod(of[:, 2:] - of[:, :2], axis=1).mean() for of in boxes]))]
    from_left = np.argsort([np.median(of[:, [0, 2]]) for of in boxes], kind="stable")
    index = {"left": 0, "right": len(persons) - 1}.get(asked)
    index = int(asked) - 1 if index is None else index
    return persons[from_left[index]] if index < len(persons) else np.full(len(frames), -1)


def _linked(frames: Sequence[Faces], cut: np.ndarray) -> list[_Track]:
    """Return the tracks of all faces; none goes on over a cut."""
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
    from scipy.optimize import linear_sum_assignment  # a prediction starts sooner without it where there is one face

    return zip(*linear_sum_assignment(-overlap), strict=True)


def _become_others(tracks: Sequence[_Track], looks: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return (T,) in which frames a track goes on as another person: a cut that changes little but the face."""
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
    np.maximum.at(largest, shots, [of.max(initial=0) for of in sizes])
    return [of / largest[shot] for of, shot in zip(sizes, shots, strict=True)]


def _life(person: np.ndarray, looks: Sequence[np.ndarray], cut: np.ndarray, stride: int) -> float:
    """Return from _LEAST to 1 how much a person counts by their motion within shots; `person` (T,) are their faces."""
    found = []
    for shot in np.split(np.arange(len(cut)), np.flatnonzero(cut)):
        seen = [time for time in shot[::stride].tolist() if person[time] >= 0]
        found += [
            measure_motion([looks[time][person[time]] for time in pair]) for pair in zip(seen, seen[1:], strict=False)
        ]
    return min(max((float(np.median(found)) / _LIVELY) ** 4, _LEAST), 1.0) if found else _LEAST


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common)


def _is_of(person: _Person, track: _Track, look: np.ndarray, frames: Sequence[Faces], shots: np.ndarray) -> bool:
    """Whether a track can be a person's: it is seen at other times, and looks like them (means over all sightings), or is
    near and of their size where the two come closest in time within a shot."""
    if (person.faces[track.times] >= 0).any():
        return False
    seen, times = np.flatnonzero(person.faces >= 0), np.array(track.times)
    after = np.searchsorted(seen, times).clip(1, len(seen) - 1) if len(seen) > 1 else np.zeros(len(times), int)
    nearest = np.where(abs(seen[after - 1] - times) <= abs(seen[after] - times), seen[after - 1], seen[after])
    at = int(np.argmin(abs(nearest - times)))
    before, now = int(nearest[at]), track.times[at]
    if shots[before] != shots[now]:
        return compute_likeness(person.sum, look) >= MIN_LIKENESS
    one, other = frames[before].boxes[person.faces[before]], frames[now].boxes[track.faces[at]]
    width, other_width = one[2] - one[0], other[2] - other[0]
    distance = np.linalg.norm(one[:2] + one[2:] - other[:2] - other[2:]) / 2
    return bool(1 / _SIZE_RATIO < width / other_width < _SIZE_RATIO and distance < _DISTANCE * width)
