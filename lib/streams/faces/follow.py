"""Follow one person through a clip in which several faces may be seen, come and go."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from lib.streams.faces.detect import Faces

_SAME_FACE = 0.3  # least intersection over union of a face's boxes in consecutive sightings
_SIZE_RATIO = 2.0  # a face that was lost and found again is at most this much larger or smaller ...
_DISTANCE = 1.5  # ... and at most so many face widths away


def follow(frames: Sequence[Faces]) -> np.ndarray:
    """Return (T,) the index of the main person's face in each frame, -1 where it is not seen.

    Boxes are linked over time by overlap (Hungarian assignment). The main person's track is the one with the largest
    sum of area times detection score; tracks that it can be a part of (at other times, alike in size and place) join.
    """
    tracks: list[dict[int, int]] = []
    for time, faces in enumerate(frames):
        last = [frames[max(track)].boxes[track[max(track)]] for track in tracks]
        overlap = np.array([[_overlap(before, box) for box in faces.boxes] for before in last])
        linked: set[int] = set()
        for track, face in zip(*linear_sum_assignment(-overlap), strict=True) if overlap.size else ():
            if overlap[track, face] >= _SAME_FACE:
                tracks[track][time] = int(face)
                linked.add(int(face))
        tracks += [{time: face} for face in range(len(faces.boxes)) if face not in linked]

    tracks.sort(key=lambda track: -sum(_weight(frames[time], face) for time, face in track.items()))
    person: dict[int, int] = {}
    for track in tracks:
        if not person or (person.keys().isdisjoint(track) and _alike(frames, person, track)):
            person |= track
    return np.array([person.get(time, -1) for time in range(len(frames))])


def _weight(faces: Faces, face: int) -> float:
    x0, y0, x1, y1 = faces.boxes[face]
    return (x1 - x0) * (y1 - y0) * faces.scores[face]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common)


def _alike(frames: Sequence[Faces], person: dict[int, int], track: dict[int, int]) -> bool:
    """Whether the two are alike where they come closest in time."""
    before, after = min(((a, b) for a in person for b in track), key=lambda pair: abs(pair[0] - pair[1]))
    one, other = frames[before].boxes[person[before]], frames[after].boxes[track[after]]
    width, other_width = one[2] - one[0], other[2] - other[0]
    distance = np.linalg.norm(one[:2] + one[2:] - other[:2] - other[2:]) / 2
    return bool(1 / _SIZE_RATIO < width / other_width < _SIZE_RATIO and distance < _DISTANCE * width)
