"""Detect faces in key frames and after cuts, and track them through the frames between."""

from collections.abc import Iterable, Sequence

import numpy as np

from lib.streams.faces.detect import Detector, Faces
from lib.streams.faces.frame import Frame

_RUNS, _FIRST_RUNS = 3, 5  # runs of the last network on a tracked face, and on a newly detected face
_CUT = 12.0  # mean difference of two thumbnails in grey levels that counts as a cut; head motion stays below


class Tracker:
    """Finds the faces of a clip's frames by detection in key frames and by tracking in the frames between.

    The detector runs in the first frame of every `key_seconds`, after cuts, and where tracking loses a face or has none to
    track. Detected faces are refined in the same way as tracked ones, so that points don't jump. key_seconds = 0: the
    detector runs in all frames, without refinement. A person who appears between two key frames is found at the second one.
    """

    def __init__(self, detect: Detector, key_seconds: float) -> None:
        self._detect, self._key_seconds = detect, key_seconds

    def __call__(self, batches: Iterable[Sequence[Frame]], times: np.ndarray) -> list[Faces]:
        """Return the faces of each of a clip's frames, given the frames in batches and their times (T,) in seconds."""
        if not self._key_seconds:
            return [faces for batch in batches for faces in self._detect([frame.pixels for frame in batch])]
        fresh = find_key_frames(times, self._key_seconds)
        results: list[Faces] = []
        last: list[Frame] = []
        for batch in batches:
            cut = find_cuts([*last, *batch])[len(last) :]
            results += self._track(
                batch, fresh[len(results) : len(results) + len(batch)] | cut, results[-1] if results else None
            )
            last = [batch[-1]]
        return results

    def _track(self, frames: Sequence[Frame], fresh: np.ndarray, before: Faces | None) -> list[Faces]:
        """Return each frame's faces. fresh: (n,), whether to detect; before: the faces of the frame before the first.

        Each round tracks from all frames with known faces to their next frames in one batch, which saves time.
        After a frame without a face, the detector searches all frames until the next frame with known faces.
        """
        results: list[Faces | None] = [before, *(None for _ in frames)]
        search = np.flatnonzero(fresh).tolist()
        while True:
            if search:
                searched = [frames[index] for index in search]
                detected = self._detect([frame.pixels for frame in searched])
                refined = self._detect.refine(searched, detected, _FIRST_RUNS)
                for index, original, better in zip(search, detected, refined, strict=True):
                    results[index + 1] = better or original
            todo = [index for index in range(len(frames)) if results[index] and not results[index + 1]]
            if not todo:
                return [faces for faces in results[1:] if faces]
            near = [faces for index in todo if (faces := results[index])]
            for index, refined_faces in zip(
                todo, self._detect.refine([frames[index] for index in todo], near, _RUNS), strict=True
            ):
                results[index + 1] = refined_faces
            search = []
            for index, faces in zip(todo, near, strict=True):
                later = next((later for later in range(index, len(frames)) if results[later + 1]), len(frames))
                search += range(index, later if not len(faces.boxes) else min(later, index + 1))


def find_key_frames(times: np.ndarray, seconds: float) -> np.ndarray:
    """Return (T,) whether a frame at `times` (T,) is the first of an interval of `seconds`."""
    interval = np.floor(times / seconds + 1e-6)
    return np.diff(interval, prepend=-1) > 0


def find_cuts(frames: Sequence[Frame]) -> np.ndarray:
    """Return (T,) whether a frame shows another scene than the frame before, by the difference of their thumbnails.

    The value of the first frame is False.
    """
    small = [frame.thumbnail for frame in frames]
    return np.abs(np.diff(small, axis=0, prepend=small[:1])).mean((1, 2)) >= _CUT
