"""Choose the person to track in a clip with several faces, cuts, and persons who enter and leave."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.streams.faces.detect import Faces
from lib.streams.faces.person import LIVING, SEEN, Person, choose_stride, is_near, measure_life, measure_sizes
from lib.streams.faces.tracks import Identify, Track, embed_tracks, make_tracks
from lib.streams.faces.words import MAIN


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
    tracks, cut = make_tracks(frames, looks, cut)
    if identify and cut.any():
        embed_tracks(tracks, identify)
    persons, shots = list[Person](), np.cumsum(cut)
    sizes = measure_sizes(frames, shots)
    tracks.sort(key=lambda track: -sum(sizes[time][face] for time, face in zip(track.times, track.faces, strict=True)))
    for track in tracks:
        of_track = track.looks(looks)
        same = (person for person in persons if _is_of(person, track, of_track, frames, shots))
        person = next(same, None)
        if person is None:
            persons.append(person := Person(len(frames)))
        person.take(track, of_track)
    if not persons:
        return TrackedPerson(np.full(len(frames), -1), cut, 0, 0)
    stride = choose_stride(times)
    is_only_person = len(persons) == 1  # no other person to distinguish
    life = [1.0 if is_only_person else measure_life(person.faces, looks, cut, stride) for person in persons]
    size = [sum(sizes[time][person.faces[time]] for time in np.flatnonzero(person.faces >= 0)) for person in persons]
    order = np.argsort(-np.multiply(size, life), kind="stable")
    least = SEEN * sum(len(faces.boxes) > 0 for faces in frames)
    candidates = [
        persons[index].faces
        for rank, index in enumerate(order)
        if rank == 0 or (life[index] >= LIVING and (persons[index].faces >= 0).sum() >= least)
    ]
    main = _asked(candidates, frames, person_choice)
    others = [person.faces >= 0 for person, liveliness in zip(persons, life, strict=True) if liveliness >= LIVING]
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


def _is_of(person: Person, track: Track, looks: np.ndarray, frames: Sequence[Faces], shots: np.ndarray) -> bool:
    """Return whether a track can belong to a person.

    The track must have other times than the person. At the two sightings that are closest in time, it must be near and of
    similar size if they are in the same shot; otherwise the looks must be similar.
    """
    if person.is_visible_with(track):
        return False
    before, now = person.find_nearest(track)
    return is_near(person, track, frames) if shots[before] == shots[now] else person.looks_like(track, looks)
