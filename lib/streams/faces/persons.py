"""Track every person of a clip, who may leave and return, not only the main person."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.streams.faces.detect import Faces
from lib.streams.faces.person import (
    Person,
    choose_stride,
    is_near,
    measure_liveness,
    measure_sizes,
    select_persons,
    sort_by_size,
)
from lib.streams.faces.tracks import Identify, Track, embed_tracks, make_tracks

_MAX_GAP = 1.0  # seconds; a face that is lost for longer is recognised by its thumbnails, not by its place
_MIN_LIKENESS = 0.6  # a face at the same place with a lower likeness is another person's
_MOTION_QUANTILE = 0.8  # quantile of a person's motion, because a person who listens for most of the clip hardly moves


class Persons(NamedTuple):
    """All persons of a clip with T frames, from left to right.

    faces: (P, T) the index of each person's face in each frame, -1 where it is not visible. cuts: (T,) whether a frame
    begins a new shot, or shows another person's face in the same place.
    """

    faces: np.ndarray
    cuts: np.ndarray


def find_persons(
    frames: Sequence[Faces],
    thumbnails: Sequence[np.ndarray],
    cut: np.ndarray,
    times: np.ndarray,
    identify: Identify | None = None,
) -> Persons:
    """Return all living persons who are visible in a tenth of the frames with faces, or the largest if no person moves.

    Arguments as those of `lib.streams.faces.follow.follow`. A track continues a person if it begins near the person's last
    place within a second and a shot. Otherwise it belongs to the most similar person, by embeddings if `identify` embeds
    faces, else by thumbnails; a track that resembles no known person is another person.
    """
    tracks, cut = make_tracks(frames, thumbnails, cut)
    tracks = [part for track in tracks for part in _split_at_gaps(track, times)]
    if identify and len(tracks) > 1:
        embed_tracks(tracks, identify)
    shots = np.cumsum(cut)
    sizes = measure_sizes(frames, shots)
    persons: list[Person] = []
    for track in sort_by_size(tracks, sizes):
        of_track = track.select_thumbnails(thumbnails)
        scores = [_score_fit(person, track, of_track, (frames, shots, times)) for person in persons]
        if max(scores, default=-np.inf) > -np.inf:
            person = persons[int(np.argmax(scores))]
        else:
            persons.append(person := Person(len(frames)))
        person.add_track(track, of_track)
    stride = choose_stride(times)
    liveness = [measure_liveness(person.faces, thumbnails, cut, stride, _MOTION_QUANTILE) for person in persons]
    living = select_persons(persons, liveness, sizes)
    places = [
        np.median([frames[time].boxes[faces[time], [0, 2]] for time in np.flatnonzero(faces >= 0).tolist()])
        for faces in living
    ]
    in_order = [living[index] for index in np.argsort(places, kind="stable")]
    return Persons(np.array(in_order, int).reshape(-1, len(frames)), cut)


def _split_at_gaps(track: Track, times: np.ndarray) -> list[Track]:
    """Return the parts of a track between long gaps, after which another person may have the place."""
    ends = np.flatnonzero(np.diff(times[track.times]) > _MAX_GAP) + 1
    parts = zip(np.split(track.times, ends), np.split(track.faces, ends), strict=True)
    return [Track(of_times.tolist(), faces.tolist()) for of_times, faces in parts]


def _score_fit(
    person: Person, track: Track, thumbnails: np.ndarray, scene: tuple[Sequence[Faces], np.ndarray, np.ndarray]
) -> float:
    """Return how well a track fits a person: infinite if it continues the person, minus infinity if it can't be the
    person's, otherwise the likeness. scene: the faces, shots and times of all frames."""
    frames, shots, times = scene
    if person.is_visible_with(track):
        return -np.inf
    before, now = person.find_nearest(track)
    likeness = person.measure_likeness(track, thumbnails)
    if shots[before] == shots[now] and abs(times[now] - times[before]) <= _MAX_GAP and is_near(person, track, frames):
        return np.inf if track.embedding is not None or likeness >= _MIN_LIKENESS else -np.inf
    return likeness if person.resembles(track, thumbnails) else -np.inf
