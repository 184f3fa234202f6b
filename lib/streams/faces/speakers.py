"""Find who of a clip's persons speaks, from the motion of their mouths and the activity of the voice."""

from collections.abc import Sequence

import numpy as np

from lib.streams.faces.person import choose_stride
from lib.streams.faces.thumbnails import EDGE, blur, measure_change

NO_SPEAKER = -1
"""The speaker where the voice is silent, or where no visible person's mouth moves."""

_MOUTH = slice(21 - EDGE, 30 - EDGE), slice(8 - EDGE, 24 - EDGE)  # rows and columns of a map of changes
_UPPER = slice(4 - EDGE, 18 - EDGE), slice(4 - EDGE, 28 - EDGE)
_MOUTH_POWER, _UPPER_POWER = 1.5, 0.5  # exponents of the two motions; a head that moves moves both
_NOISE = 0.5  # motion that is noise, in per cent of the contrast
_MOVING = 1.0  # the value of `measure_lips` above which a mouth rather speaks than not
_LIMIT = 1.0  # largest evidence of a frame, so that a laugh does not outweigh a turn
_UNSEEN = -0.3  # evidence of a frame without the face: a short gap ends no turn
_PER_SECOND, _SWITCH = 5.0, 1.0  # weight of a second of evidence, and the evidence that a change of speaker needs


def measure_lips(thumbnails: Sequence[np.ndarray], faces: np.ndarray, cut: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return how much each person's mouth moves in each frame (P, T), compared with the upper face: 1.5 log(motion of the
    mouth) - 0.5 log(motion of the upper face), in per cent of the contrast; NaN where the person is not visible.

    thumbnails: T of (n, S, S), the small grey images of each frame's faces. faces: (P, T), the index of each person's face
    in each frame, or -1. cut: (T,), whether a frame begins a new shot. Motion is the change within 0.2 s before and after
    the frame, after the best affine motion and change of light.
    """
    stride, shots = choose_stride(times), np.cumsum(cut)
    lips = np.full(faces.shape, np.nan)
    for person, face_of in enumerate(faces.tolist()):
        blurred = [blur(thumbnails[time][face]) if face >= 0 else None for time, face in enumerate(face_of)]
        motions: list[list[float]] = [[] for _ in blurred]
        for time in range(stride, len(blurred)):
            before, after = blurred[time - stride], blurred[time]
            if before is not None and after is not None and shots[time] == shots[time - stride]:
                change = measure_change(before, after)
                mouth, upper = (np.log(change[region].mean() + _NOISE) for region in (_MOUTH, _UPPER))
                for frame in (time - stride, time):
                    motions[frame].append(_MOUTH_POWER * mouth - _UPPER_POWER * upper)
        lips[person] = [np.mean(of_frame) if of_frame else np.nan for of_frame in motions]
    return lips


def find_speakers(lips: np.ndarray, speech: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the index of the person who speaks in each frame (T,), or NO_SPEAKER.

    lips: (P, T), from `measure_lips`. speech: (T,), whether the voice is active. times: (T,) in seconds. Of all sequences of
    speakers, the most likely one is returned (Viterbi 1967): a person speaks while the mouth moves more than those of the
    others, and changes of speaker are rare. No person speaks while the voice is silent; a pause alone changes no speaker.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    evidence = np.clip(np.nan_to_num(lips - _MOVING, nan=_UNSEEN), -_LIMIT, _LIMIT) * _PER_SECOND * step
    evidence = np.vstack([np.zeros(len(speech)), np.where(speech, evidence, 0.0)])  # row 0: no person
    total, origin = evidence[:, 0], np.zeros(evidence.shape, int)
    states = np.arange(len(evidence))
    for time in range(1, evidence.shape[1]):
        best = int(total.argmax())
        origin[:, time] = np.where(total[best] - _SWITCH > total, best, states)
        total = np.maximum(total, total[best] - _SWITCH) + evidence[:, time]
    state, speakers = int(total.argmax()), np.full(evidence.shape[1], NO_SPEAKER)
    for time in range(evidence.shape[1] - 1, -1, -1):
        speakers[time] = state - 1
        state = int(origin[state, time])
    return np.where(speech, speakers, NO_SPEAKER)
