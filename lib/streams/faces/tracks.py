"""Link the faces of a clip's frames to tracks: sightings of one face within a shot."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lib.streams.faces.assign import assign
from lib.streams.faces.detect import Faces
from lib.streams.faces.thumbnails import average_thumbnails, compute_likeness

_SAME_FACE = 0.3  # lowest intersection over union of a face's boxes in consecutive sightings
_MIN_LIKENESS = 0.6  # a lower likeness means that another person has taken the face's place ...
_NEIGHBOURS = 5  # ... in this number of sightings before and after
_EMBEDDED_FACES = 5  # number of a track's faces, evenly spaced, whose embeddings are averaged


Identify = Callable[[Sequence[tuple[int, int]]], np.ndarray]
"""Returns embeddings (n, D) of faces, given as n pairs of frame and index of the face in the frame."""


@dataclass
class Track:
    """Sightings of a face: frames in rising order, and the index of the face in each frame. embedding (D,): the sum of its
    sampled embeddings of length 1; None without `identify`."""

    times: list[int]
    faces: list[int]
    embedding: np.ndarray | None = None

    def select_thumbnails(self, thumbnails_by_frame: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([thumbnails_by_frame[time][face] for time, face in zip(self.times, self.faces, strict=True)])


def make_tracks(
    frames: Sequence[Faces], thumbnails: Sequence[np.ndarray], cut: np.ndarray
) -> tuple[list[Track], np.ndarray]:
    """Return the tracks of all faces, and whether each frame begins a new shot (T,).

    Boxes are linked over time by overlap (Hungarian assignment), not across cuts. thumbnails: T of (n, S, S), the small grey
    images of each frame's faces. cut: (T,) whether a frame begins a new shot; frames in which a track continues with another
    person's face are added.
    """
    tracks = _link_faces(frames, cut)
    sudden = _find_replaced_faces(tracks, thumbnails, len(frames))
    return (_link_faces(frames, cut | sudden), cut | sudden) if sudden.any() else (tracks, cut)


def _link_faces(frames: Sequence[Faces], cut: np.ndarray) -> list[Track]:
    """Return the tracks of all faces. Tracks end at cuts."""
    done: list[Track] = []
    tracks: list[Track] = []
    for time, faces in enumerate(frames):
        if cut[time]:
            done, tracks = done + tracks, []
        last = [frames[track.times[-1]].boxes[track.faces[-1]] for track in tracks]
        overlap = np.array([[_compute_overlap(before, box) for box in faces.boxes] for before in last])
        linked: set[int] = set()
        for track, face in _assign_pairs(overlap):
            if overlap[track, face] >= _SAME_FACE:
                tracks[track].times.append(time)
                tracks[track].faces.append(int(face))
                linked.add(int(face))
        tracks += [Track([time], [face]) for face in range(len(faces.boxes)) if face not in linked]
    return done + tracks


def embed_tracks(tracks: Sequence[Track], identify: Identify) -> None:
    """Set the embedding of each track."""
    sampled = [
        np.unique(np.linspace(0, len(track.times) - 1, _EMBEDDED_FACES).round().astype(int)).tolist()
        for track in tracks
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


def _assign_pairs(overlap: np.ndarray) -> Iterable[tuple[int, int]]:
    """Return the pairs of row and column with the largest total overlap (Hungarian assignment)."""
    if overlap.size <= 1:
        return [(0, 0)] * overlap.size
    return assign(-overlap)


def _find_replaced_faces(tracks: Sequence[Track], thumbnails: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return (T,) whether a track continues with another person's face in a frame: a cut that changes only the face."""
    changed = np.zeros(length, bool)
    for track in tracks:
        of_track = track.select_thumbnails(thumbnails)
        for index in range(1, len(of_track)):
            before, after = of_track[max(index - _NEIGHBOURS, 0) : index], of_track[index : index + _NEIGHBOURS]
            if (
                compute_likeness(average_thumbnails(before[-1:]), average_thumbnails(after[:1])) < _MIN_LIKENESS
                and min(len(before), len(after)) > 1
            ):
                changed[track.times[index]] |= (
                    compute_likeness(average_thumbnails(before), average_thumbnails(after)) < _MIN_LIKENESS
                )
    return changed


def _compute_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])) - common)
