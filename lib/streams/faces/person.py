"""A person in a clip: the tracks of one face, its thumbnails or embedding, its size, and its liveness."""

from collections.abc import Sequence

import numpy as np

from lib.streams.faces.detect import Faces
from lib.streams.faces.thumbnails import (
    MIN_BEST_LIKENESS,
    MIN_LIKENESS,
    average_thumbnails,
    compute_likeness,
    find_best_likeness,
    measure_motion,
)
from lib.streams.faces.tracks import Track

_SIZE_RATIO = 2.0  # largest change of size of a face that was lost and found again ...
_DISTANCE = 1.5  # ... and its largest distance in face widths
_FULL_MOTION = 1.4  # motion of a person with liveness 1; half of it gives a sixteenth (4th power)
_STILL_LIVENESS = 0.01  # liveness of a person without motion
_STRIDE = 0.2  # seconds between the sightings for the measurement of motion
_COMPARED = 20  # number of a track's thumbnails, evenly spaced, that are compared with those of other tracks
_SAME_PERSON = 0.5
"""Lowest cosine similarity of mean SFace embeddings of one person before and after a cut. It lies halfway between the
medians of clips of one video (0.744) and of two videos (0.269) of First Impressions V2."""
MIN_LIVENESS = 0.25
"""Lowest liveness of a living person; that of a portrait is lower."""
MIN_VISIBLE_FRACTION = 0.1
"""Lowest fraction of the frames with faces in which a selectable person is visible."""


class Person:
    """The tracks of one person."""

    def __init__(self, length: int) -> None:
        self.faces = np.full(length, -1)
        self.thumbnail_sum = np.zeros(())
        self.embedding = np.zeros(())
        self.compared: list[np.ndarray] = []

    def add_track(self, track: Track, thumbnails: np.ndarray) -> None:
        self.faces[track.times] = track.faces
        self.thumbnail_sum = self.thumbnail_sum + len(thumbnails) * average_thumbnails(thumbnails)
        self.compared.append(_sample(thumbnails))
        if track.embedding is not None:
            self.embedding = self.embedding + track.embedding

    def resembles(self, track: Track, thumbnails: np.ndarray) -> bool:
        """Return whether a track on the other side of a cut can be this person's: by its embedding, or without one by its
        thumbnails, which are similar on average or in one pose."""
        if track.embedding is not None:
            return compute_likeness(self.embedding, track.embedding) >= _SAME_PERSON
        if compute_likeness(self.thumbnail_sum, average_thumbnails(thumbnails)) >= MIN_LIKENESS:
            return True
        return find_best_likeness(np.concatenate(self.compared), _sample(thumbnails)) >= MIN_BEST_LIKENESS

    def measure_likeness(self, track: Track, thumbnails: np.ndarray) -> float:
        """Return the cosine similarity of the embeddings, or without them the correlation of the mean thumbnails."""
        if track.embedding is not None:
            return compute_likeness(self.embedding, track.embedding)
        return compute_likeness(self.thumbnail_sum, average_thumbnails(thumbnails))

    def is_visible_with(self, track: Track) -> bool:
        """Return whether the person and a track have a common frame, so that they are different persons."""
        return bool((self.faces[track.times] >= 0).any())

    def find_nearest(self, track: Track) -> tuple[int, int]:
        """Return the two frames that are closest in time, of the person and of a track with other frames."""
        visible, times = np.flatnonzero(self.faces >= 0), np.array(track.times)
        after = np.searchsorted(visible, times)
        after = after.clip(1, len(visible) - 1) if len(visible) > 1 else np.zeros(len(times), int)
        nearest = np.where(
            abs(visible[after - 1] - times) <= abs(visible[after] - times), visible[after - 1], visible[after]
        )
        index = int(np.argmin(abs(nearest - times)))
        return int(nearest[index]), track.times[index]


def is_near(person: Person, track: Track, frames: Sequence[Faces]) -> bool:
    """Return whether a track is near a person and of similar size, at the two frames that are closest in time."""
    before, now = person.find_nearest(track)
    box = frames[before].boxes[person.faces[before]]
    other_box = frames[now].boxes[track.faces[track.times.index(now)]]
    width, other_width = box[2] - box[0], other_box[2] - other_box[0]
    distance = np.linalg.norm(box[:2] + box[2:] - other_box[:2] - other_box[2:]) / 2
    return bool(1 / _SIZE_RATIO < width / other_width < _SIZE_RATIO and distance < _DISTANCE * width)


def measure_sizes(frames: Sequence[Faces], shots: np.ndarray) -> list[np.ndarray]:
    """Return area times score of each face (T of (n,)), relative to the largest in its shot; `shots` (T,) are numbers."""
    sizes = [np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1) * faces.scores for faces in frames]
    largest = np.full(shots[-1] + 1, 1e-9)
    np.maximum.at(largest, shots, [areas.max(initial=0) for areas in sizes])
    return [areas / largest[shot] for areas, shot in zip(sizes, shots, strict=True)]


def sort_by_size(tracks: Sequence[Track], sizes: Sequence[np.ndarray]) -> list[Track]:
    """Return tracks by the sums of their faces' sizes, the largest first. sizes: T of (n,), of each frame's faces."""
    return sorted(
        tracks, key=lambda track: -sum(sizes[t][face] for t, face in zip(track.times, track.faces, strict=True))
    )


def select_persons(
    persons: Sequence[Person], liveness: Sequence[float], sizes: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return the faces (T,) of the persons who can be selected, by size times liveness, the main person first.

    They are the main person, and others who are not images and are visible in a tenth of the frames with faces.
    liveness: of each person. sizes: T of (n,), of each frame's faces.
    """
    totals = [
        sum(sizes[time][person.faces[time]] for time in np.flatnonzero(person.faces >= 0).tolist())
        for person in persons
    ]
    least = MIN_VISIBLE_FRACTION * sum(len(of_frame) > 0 for of_frame in sizes)
    return [
        persons[index].faces
        for rank, index in enumerate(np.argsort(-np.multiply(totals, liveness), kind="stable"))
        if rank == 0 or (liveness[index] >= MIN_LIVENESS and (persons[index].faces >= 0).sum() >= least)
    ]


def choose_stride(times: np.ndarray) -> int:
    """Return the number of frames between two thumbnails for the measurement of motion, given the frames' times (T,)."""
    return max(1, round(_STRIDE / float(np.median(np.diff(times))))) if len(times) > 1 else 1


def measure_liveness(
    person: np.ndarray, thumbnails: Sequence[np.ndarray], cut: np.ndarray, stride: int, quantile: float = 0.5
) -> float:
    """Return a person's liveness, from 0.01 (an image of a face) to 1, by a quantile of the motion within shots.

    person: (T,), the indices of the faces. stride: number of frames between two compared thumbnails (`choose_stride`).
    """
    motions = []
    for shot in np.split(np.arange(len(cut)), np.flatnonzero(cut)):
        visible = [time for time in shot[::stride].tolist() if person[time] >= 0]
        motions += [
            measure_motion([thumbnails[time][person[time]] for time in pair])
            for pair in zip(visible, visible[1:], strict=False)
        ]
    motion = float(np.quantile(motions, quantile)) if motions else 0.0
    return min(max((motion / _FULL_MOTION) ** 4, _STILL_LIVENESS), 1.0)


def _sample(thumbnails: np.ndarray) -> np.ndarray:
    return thumbnails[np.unique(np.linspace(0, len(thumbnails) - 1, _COMPARED).round().astype(int))]
