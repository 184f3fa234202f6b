"""A person in a clip: the tracks of one face, its looks or embedding, and whether it lives or is an image."""

from collections.abc import Sequence

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
from lib.streams.faces.tracks import Track

_SIZE_RATIO = 2.0  # largest change of size of a face that was lost and found again ...
_DISTANCE = 1.5  # ... and its largest distance in face widths
_LIVELY = 1.4  # motion that gives a person the full weight; half of it gives a sixteenth (4th power)
_LEAST = 0.01  # weight of a person without motion
_STRIDE = 0.2  # seconds between the sightings for the measurement of motion
_COMPARED = 20  # number of a track's looks, evenly spaced, that are compared with those of other tracks
_SAME_PERSON = 0.5
"""Lowest cosine similarity of mean SFace embeddings of one person before and after a cut. It lies halfway between the
medians of clips of one video (0.744) and of two videos (0.269) of First Impressions V2."""
LIVING = 0.25
"""Lowest weight of a living person."""
SEEN = 0.1
"""Lowest fraction of the frames with faces in which a selectable person is visible."""


class Person:
    """The tracks of one person."""

    def __init__(self, length: int) -> None:
        self.faces = np.full(length, -1)
        self.sum = np.zeros(())
        self.embedding = np.zeros(())
        self.compared: list[np.ndarray] = []

    def take(self, track: Track, looks: np.ndarray) -> None:
        self.faces[track.times] = track.faces
        self.sum = self.sum + len(looks) * average_looks(looks)
        self.compared.append(_sample(looks))
        if track.embedding is not None:
            self.embedding = self.embedding + track.embedding

    def looks_like(self, track: Track, looks: np.ndarray) -> bool:
        """Return whether a track on the other side of a cut can be this person's: by its embedding, or without one by its
        looks, which are similar on average or in one pose."""
        if track.embedding is not None:
            return compute_likeness(self.embedding, track.embedding) >= _SAME_PERSON
        if compute_likeness(self.sum, average_looks(looks)) >= MIN_LIKENESS:
            return True
        return find_best_likeness(np.concatenate(self.compared), _sample(looks)) >= MIN_BEST_LIKENESS

    def measure_likeness(self, track: Track, looks: np.ndarray) -> float:
        """Return the cosine similarity of the embeddings, or without them the correlation of the mean looks."""
        if track.embedding is not None:
            return compute_likeness(self.embedding, track.embedding)
        return compute_likeness(self.sum, average_looks(looks))

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


def choose_stride(times: np.ndarray) -> int:
    """Return the number of frames between two looks for the measurement of motion, given the frames' times (T,)."""
    return max(1, round(_STRIDE / float(np.median(np.diff(times))))) if len(times) > 1 else 1


def measure_life(
    person: np.ndarray, looks: Sequence[np.ndarray], cut: np.ndarray, stride: int, quantile: float = 0.5
) -> float:
    """Return a person's weight, from 0.01 to 1, by the motion within shots: by its median, or another quantile.

    person: (T,), the indices of the faces. stride: number of frames between two compared looks (`choose_stride`).
    """
    motions = []
    for shot in np.split(np.arange(len(cut)), np.flatnonzero(cut)):
        visible = [time for time in shot[::stride].tolist() if person[time] >= 0]
        motions += [
            measure_motion([looks[time][person[time]] for time in pair])
            for pair in zip(visible, visible[1:], strict=False)
        ]
    return min(max((float(np.quantile(motions, quantile)) / _LIVELY) ** 4, _LEAST), 1.0) if motions else _LEAST


def _sample(looks: np.ndarray) -> np.ndarray:
    return looks[np.unique(np.linspace(0, len(looks) - 1, _COMPARED).round().astype(int))]
