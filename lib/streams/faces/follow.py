"""Choose the person to track in a clip with several faces, cuts, and persons who enter and leave."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.streams.faces.constants import MAIN
from lib.streams.faces.detect import Faces
from lib.streams.faces.person import (
    MIN_LIVENESS,
    Person,
    choose_stride,
    is_near,
    measure_liveness,
    measure_sizes,
    select_persons,
    sort_by_size,
)
from lib.streams.faces.tracks import Identify, Track, embed_tracks, make_tracks


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
    thumbnails: Sequence[np.ndarray],
    cut: np.ndarray,
    times: np.ndarray,
    person_choice: str = MAIN,
    identify: Identify | None = None,
) -> TrackedPerson:
    """Return the person to track in a clip's frames (T) at `times` (T,): the main person, or another of PERSON_CHOICES.

    thumbnails: T of (n, S, S), the small grey images of each frame's faces. cut: (T,) whether a frame begins a new shot.
    identify: embeds faces, so that persons are compared across cuts by embeddings in place of thumbnails.

    Boxes are linked over time by overlap (Hungarian assignment), not across cuts. Tracks at different times belong to one
    person if they are near each other and of similar size within a shot, or look similar in different shots. The main person
    is the largest and longest visible: the sum of area times detection score, relative to the largest of each shot, weighted
    by motion, so that an image of a face is tracked only if no person moves. `person_choice` selects among the persons who
    move and are visible in a tenth of the frames with faces; no face is tracked if the number exceeds theirs.
    """
    tracks, cut = make_tracks(frames, thumbnails, cut)
    if identify and cut.any():
        embed_tracks(tracks, identify)
    shots = np.cumsum(cut)
    sizes = measure_sizes(frames, shots)
    persons = _join_tracks(sort_by_size(tracks, sizes), frames, thumbnails, shots)
    if not persons:
        return TrackedPerson(np.full(len(frames), -1), cut, 0, 0)
    stride = choose_stride(times)
    is_only_person = len(persons) == 1  # no other person to distinguish
    liveness = [
        1.0 if is_only_person else measure_liveness(person.faces, thumbnails, cut, stride) for person in persons
    ]
    candidates = select_persons(persons, liveness, sizes)
    selected = _select_person(candidates, frames, person_choice)
    living = [person.faces for person, value in zip(persons, liveness, strict=True) if value >= MIN_LIVENESS]
    return TrackedPerson(selected, cut, _count_changes(selected, living), len(candidates))


def _join_tracks(
    tracks: Sequence[Track], frames: Sequence[Faces], thumbnails: Sequence[np.ndarray], shots: np.ndarray
) -> list[Person]:
    """Return the persons to whom the tracks belong. A track joins the first person that it can belong to."""
    persons = list[Person]()
    for track in tracks:
        of_track = track.select_thumbnails(thumbnails)
        same = (person for person in persons if _can_belong_to(person, track, of_track, frames, shots))
        person = next(same, None)
        if person is None:
            persons.append(person := Person(len(frames)))
        person.add_track(track, of_track)
    return persons


def _count_changes(selected: np.ndarray, living: Sequence[np.ndarray]) -> int:
    """Return the number of switches between frames that show the selected person and frames that show only others.

    selected: the person's faces (T,). living: the faces (T,) of each living person.
    """
    others_visible = (np.stack(living) >= 0).any(axis=0) & (selected < 0) if living else np.zeros(len(selected), bool)
    visible = (selected >= 0)[(selected >= 0) | others_visible]
    return int((visible[1:] != visible[:-1]).sum())


def _select_person(persons: Sequence[np.ndarray], frames: Sequence[Faces], person_choice: str) -> np.ndarray:
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


def _can_belong_to(
    person: Person, track: Track, thumbnails: np.ndarray, frames: Sequence[Faces], shots: np.ndarray
) -> bool:
    """Return whether a track can belong to a person.

    The track must have other times than the person. At the two sightings that are closest in time, it must be near and of
    similar size if they are in the same shot; otherwise the thumbnails must be similar.
    """
    if person.is_visible_with(track):
        return False
    before, now = person.find_nearest(track)
    return is_near(person, track, frames) if shots[before] == shots[now] else person.resembles(track, thumbnails)
