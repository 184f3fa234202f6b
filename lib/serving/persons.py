"""Predict all persons of a clip from one pass over its frames."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.media.packets import Span
from lib.serving.results import Evidence, Person, Report, Watch
from lib.streams import frames
from lib.streams._extraction import extract_clip
from lib.streams.base import Raw
from lib.streams.faces.constants import ALL, PERSON_CHOICES

if TYPE_CHECKING:  # not needed to predict one person
    from lib.streams.faces.everyone import EveryoneTracker


def check_person(person: str) -> None:
    """Raise InputError if `person` does not choose one person or all."""
    if person not in (*PERSON_CHOICES, ALL) and not (person.isdecimal() and int(person)):
        raise InputError(
            f"person = {person!r}; allowed: {', '.join(PERSON_CHOICES)}, {ALL}, or a number from 1 on, counted from the left"
        )


class Scene:
    """The frames and all persons of a clip.

    tracker: tracks all persons. extract_frames: the extractor of the stream frames. begin: called with the name of each
    step. Raises InputError if no frame can be decoded, or none has a face.
    """

    def __init__(
        self,
        tracker: "EveryoneTracker",
        extract_frames: Callable[..., Record],
        raw: Raw,
        begin: Callable[[str], None] = lambda step: None,
    ) -> None:
        begin("frames")
        self.tracker, self.frames = tracker, extract_clip(extract_frames, [raw])
        if self.frames.rejected:
            raise InputError(self.frames.rejected)
        begin("faces")
        self.everyone = tracker.track(self.frames, raw)
        if not self.everyone.tracks:
            raise InputError("faces: found in 0% of the frames, so no person can be predicted")
        self.shared: dict[Span | None, dict[str, Record]] = {}
        self.persons = [PersonScene(self, index) for index in range(len(self.everyone.tracks))]
        """The view of each person, from left to right."""


class PersonScene:
    """One person of a scene. index: the person's place from the left, from 0 on."""

    def __init__(self, scene: Scene, index: int) -> None:
        self._scene, self._index = scene, index
        self.person = self._describe()

    def cut(self, span: Span | None) -> dict[str, Record]:
        """Return the records that are known of the complete clip, or of a window: the frames, the person's faces, and those
        that all persons share."""
        scene = self._scene
        steps = self._find_steps(span)
        part = scene.frames if span is None else frames.cut_frames(scene.frames, steps, span[0])
        align = scene.tracker.align
        faces = part if part.rejected else align(part, scene.everyone, self._index, steps)
        return {"frames": part, "faces": faces, **scene.shared.get(span, {})}

    def share(self, span: Span | None, stream: str, record: Record) -> None:
        """Keep the record of a stream that does not depend on the person."""
        self._scene.shared.setdefault(span, {})[stream] = record

    def describe(self, evidence: Evidence) -> Evidence:
        """Return the evidence with the person, and whether the person speaks in each frame."""
        steps = self._find_steps(evidence.span)
        speaks = self._scene.everyone.speakers[steps] == self._index
        return evidence._replace(person=self.person, speaks=speaks)

    def describe_shared(self, streams: list[str]) -> list[str]:
        """Return a warning about those of the model's streams that do not depend on the person."""
        sources = [{"frames": self._scene.frames}, *self._scene.shared.values()]
        shared = [
            name for name in streams if any(name in records and not records[name].rejected for records in sources)
        ]
        count = self.person.count
        return [f"{', '.join(shared)}: the same for all {count} persons"] if shared and count > 1 else []

    def _find_steps(self, span: Span | None) -> slice:
        """Return the frames of a window, or of the complete clip."""
        times = self._scene.everyone.times
        return slice(0, len(times)) if span is None else slice(*np.searchsorted(times, span).tolist())

    def _describe(self) -> Person:
        everyone = self._scene.everyone
        track, times = everyone.tracks[self._index], everyone.times
        present = np.flatnonzero(track.states)
        width = frames.decode_frames(self._scene.frames, np.arange(1))[0].shape[1]
        step = float(np.median(np.diff(times)))
        return Person(
            number=self._index + 1,
            count=len(everyone.tracks),
            main=self._index == everyone.main,
            x=float(np.median(track.landmarks[present].mean(1)[:, 0]) + 0.5) / width,
            start=float(times[present[0]]),
            end=float(times[present[-1]]),
            visible=len(present) / len(times),
            speaks=float((everyone.speakers == self._index).sum() * step) if everyone.heard else None,
        )


class Observers(NamedTuple):
    """Functions that are called while a clip is predicted. scene: of the person, if all persons are predicted. frames: those
    of the windows that are not predicted yet."""

    watch: Watch | None = None
    report: Report | None = None
    scene: PersonScene | None = None
    frames: Iterator[Record] = iter(())

    def begin(self, step: str) -> None:
        if self.report is not None:
            self.report(step)
