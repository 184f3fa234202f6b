"""The tracks of all persons of a clip, and who of them speaks."""

from typing import NamedTuple

import numpy as np

from lib.core.shards import Record
from lib.media.audio import read_audio
from lib.media.packets import VideoError
from lib.streams._activity import HOP, Detect, find_turns
from lib.streams._sound import RATE
from lib.streams.base import Raw
from lib.streams.faces.align import Aligner, Detected, PersonTrack
from lib.streams.faces.follow import follow
from lib.streams.faces.persons import find_persons
from lib.streams.faces.speakers import find_speakers, measure_lips

_MIN_PAUSE, _MIN_TURN = 0.25, 0.1  # seconds, the defaults of the stream voice


class Everyone(NamedTuple):
    """All persons of a clip with T frames, from left to right.

    tracks: of each person. main: the index of the main person. lips: (P, T), from `measure_lips`. speakers: (T,), the index
    of the person who speaks, or NO_SPEAKER. heard: whether the clip has audio; without it, no person speaks. faces: (T,),
    the number of faces in each frame. times: (T,) in seconds.
    """

    tracks: list[PersonTrack]
    main: int
    lips: np.ndarray
    speakers: np.ndarray
    heard: bool
    faces: np.ndarray
    times: np.ndarray


class EveryoneTracker:
    """Tracks all persons. aligner: finds the faces. detect: the detector of speech."""

    def __init__(self, aligner: Aligner, detect: Detect) -> None:
        self.aligner, self._detect = aligner, detect

    def __call__(self, record: Record, raw: Raw) -> Record:
        """Return the main person's record of a clip, given its frames and the clip, with the tracks of all persons.

        Arrays in addition to those of `Aligner`: persons.landmarks, (T, P, 5, 2) in pixels of the frame, NaN if absent;
        persons.found, (T, P), as `found`; persons.lips, (T, P), the motion of the mouth; persons.speaks, (T, P), 1 where the
        person speaks. Attributes: persons, their number; main_person, the index of the main person; heard, whether the clip
        has audio.
        """
        detected = self.aligner.detect(record)
        main = self.aligner.align_one(record, detected)
        if main.rejected:
            return main
        everyone = self._follow_all(record, detected, raw)
        tracks = everyone.tracks
        arrays = {
            "persons.landmarks": np.stack([track.landmarks for track in tracks], axis=1).astype(np.float32),
            "persons.found": np.stack([track.states for track in tracks], axis=1),
            "persons.lips": everyone.lips.T.astype(np.float32),
            "persons.speaks": (everyone.speakers[:, None] == np.arange(len(tracks))).astype(np.uint8),
        }
        attributes = {"persons": len(tracks), "main_person": everyone.main, "heard": everyone.heard}
        return Record(main.clip, {**main.arrays, **arrays}, {**main.attributes, **attributes})

    def align(self, record: Record, everyone: Everyone, person: int, steps: slice) -> Record:
        """Return a person's record as `Aligner` does. record: the frames `steps` of the clip."""
        track = PersonTrack(*(values[steps] for values in everyone.tracks[person]))
        attributes = {
            "frames_with_several_faces": int((everyone.faces[steps] > 1).sum()),
            "cuts": int(track.cuts[1:].sum()),
            "changes_of_person": 0,
            "persons": len(everyone.tracks),
        }
        return self.aligner.warp_track(record, track, attributes)

    def track(self, record: Record, raw: Raw) -> Everyone:
        """Return all persons of a clip, given its frames and the clip."""
        return self._follow_all(record, self.aligner.detect(record), raw)

    def _follow_all(self, record: Record, detected: Detected, raw: Raw) -> Everyone:
        times = record.arrays["times"]
        faces, cuts = find_persons(detected.faces, detected.thumbnails, detected.cut, times, identify=detected.identify)
        lips = measure_lips(detected.thumbnails, faces, cuts, times)
        speech = self._find_speech(raw, times)
        speakers = find_speakers(lips, np.zeros(len(times), bool) if speech is None else speech, times)
        tracks = [self.aligner.fill_gaps(detected, of_person, cuts, times) for of_person in faces]
        main = follow(detected.faces, detected.thumbnails, detected.cut, times, identify=detected.identify).faces
        common = [int(((of_person == main) & (main >= 0)).sum()) for of_person in faces]
        return Everyone(
            tracks=tracks,
            main=int(np.argmax(common)) if common else 0,
            lips=lips,
            speakers=speakers,
            heard=speech is not None,
            faces=np.array([len(of_frame.boxes) for of_frame in detected.faces]),
            times=times,
        )

    def _find_speech(self, raw: Raw, times: np.ndarray) -> np.ndarray | None:
        """Return whether the voice is active in each frame (T,), None for a clip without audio."""
        try:
            start, samples = read_audio(raw.path, RATE, raw.span)
        except VideoError:
            return None
        turns, _ = find_turns(np.asarray(samples, float), self._detect, _MIN_PAUSE, _MIN_TURN)
        steps = np.round((times - start) * RATE / HOP).astype(int)
        inside = (steps >= 0) & (steps < len(turns))
        return inside & turns[steps.clip(0, len(turns) - 1)]
