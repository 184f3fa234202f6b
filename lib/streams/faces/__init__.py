"""The tracked person's face in every frame, aligned to one template."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.errors import SettingError
from lib.core.shards import Record
from lib.core.weight_files import find_file
from lib.streams.base import RAW, Stream, StreamInfo, StreamSettings
from lib.streams.faces.constants import ABSENT, DETECTED, INTERPOLATED, MAIN
from lib.streams.faces.constants import read_faces as read_steps

if TYPE_CHECKING:  # slow imports
    from lib.streams.faces.align import Aligner
    from lib.streams.faces.everyone import EveryoneTracker

_SAMPLED = 8  # number of a clip's faces whose brightness is measured
_COUNTED = "frames_with_several_faces", "cuts", "changes_of_person"


class Settings(StreamSettings):
    """side, min_face: in pixels; min_found: fraction of frames; max_gap, key_seconds: in seconds; weights: YuNet's file.
    identity: the network that recognises a person after a cut. persons: whose tracks are stored. activity: the detector of
    speech. Models from before the last two keys have their defaults."""

    side: Annotated[int, Field(ge=32, le=512)]
    min_face: Annotated[int, Field(ge=12, le=8192)]
    min_found: Annotated[float, Field(ge=0, le=1)]
    max_gap: Annotated[float, Field(ge=0, le=3600)]
    key_seconds: Annotated[float, Field(ge=0, le=3600)]
    detector: Literal["mtcnn", "yunet"]
    weights: str | None
    identity: Literal["none", "sface"]
    persons: Literal["main", "all"] = "main"
    activity: Literal["energy", "silero"] = "energy"


def validate_inputs(settings: Settings, inputs: Mapping[str, StreamInfo]) -> None:
    """Raise InputError if the smallest face is larger than a frame, or if keys contradict the detector."""
    if settings.min_face > (longest_side := inputs["frames"].settings["max_side"]):
        raise SettingError(f"faces.min_face = {settings.min_face}; allowed: up to frames.max_side = {longest_side}")
    if settings.detector == "yunet" and not settings.key_seconds:
        raise SettingError(
            "faces.key_seconds = 0 with faces.detector = yunet; allowed: above 0, so that MTCNN's last network"
            " refines YuNet's points"
        )
    if settings.detector != "yunet" and settings.weights is not None:
        raise SettingError(
            f"faces.weights = {settings.weights!r} with faces.detector = {settings.detector}; allowed: null;"
            " set it to null, or faces.detector to yunet"
        )


def make_extractor(settings: Settings, person: str | None = None) -> Callable[..., Record]:
    """Return a function that detects, tracks and aligns a person's face in a clip's frames.

    person: one of `lib.streams.faces.constants.PERSON_CHOICES`, or None for the main person. If it is not None, the record
    also has the attribute `persons`, the number of persons. With `persons: all` the function also takes the clip, and the
    record also has the tracks of all persons (`lib.streams.faces.everyone`).
    """
    if settings.persons == "all":
        return make_tracker(settings, person)
    return _make_aligner(settings, person)


def make_tracker(settings: Settings, person: str | None = None) -> "EveryoneTracker":
    """Return the tracker of all persons."""
    from lib.streams._activity import make_detector  # not needed to read the stream's shards
    from lib.streams.faces.everyone import EveryoneTracker

    return EveryoneTracker(_make_aligner(settings, person), make_detector(settings.activity, "faces.activity"))


def _make_aligner(settings: Settings, person: str | None) -> "Aligner":
    from lib.core.device import best_device  # not needed to read the stream's shards
    from lib.streams.faces.align import Aligner
    from lib.streams.faces.detect import Detector
    from lib.streams.faces.mtcnn import load_networks
    from lib.streams.faces.sface import SFace
    from lib.streams.faces.yunet import YuNet

    min_face, weights, networks = settings.min_face, settings.weights, load_networks(best_device())
    detector = YuNet(weights, min_face, networks) if settings.detector == "yunet" else Detector(min_face, networks)
    options = settings.model_dump(include={"side", "min_found", "max_gap", "key_seconds"})
    identity = SFace(None, "faces.identity = sface") if settings.identity == "sface" else None
    return Aligner(detector=detector, person=person, identity=identity, **options)


def files(settings: Settings) -> list[Path]:
    """Return the weights files of MTCNN, and those of YuNet, SFace and the detector of speech if they are used."""
    from lib.streams import _activity  # not needed to read the stream's shards
    from lib.streams.faces import mtcnn, sface, yunet

    paths = [mtcnn.weights_file(name) for name in (mtcnn.FIRST, mtcnn.SECOND, mtcnn.LAST)]
    if settings.detector == "yunet":
        paths.append(Path(settings.weights) if settings.weights else find_file(yunet.NAME))
    paths += [sface.find_weights(None)] if settings.identity == "sface" else []
    return paths + (_activity.list_weights(settings.activity) if settings.persons == "all" else [])


def summary(folder: Path) -> dict[str, Any]:
    """Count the frames with a detected, interpolated and absent face and with several faces, cuts, and changes of person."""
    counts = sum((np.bincount(values, minlength=3) for values in shards.read_arrays(folder, "found")), np.zeros(3, int))
    return {
        "frames": int(counts.sum()),
        "detected": int(counts[DETECTED]),
        "interpolated": int(counts[INTERPOLATED]),
        "absent": int(counts[ABSENT]),
        **{name: int(sum(shards.read_attributes(folder, name))) for name in _COUNTED},
    }


def warnings(record: Record) -> list[str]:
    """Return warnings about several persons or shots in a clip."""
    several, cuts, changes = (int(record.attributes[name]) for name in _COUNTED)
    frames, persons = len(record.arrays["found"]), record.attributes.get("persons", 0)
    tracked = f"one of {persons} persons" if persons > 1 else "one person"
    times = f"{changes} times" if changes > 1 else "once"
    texts = {
        f"faces: several in {several} of {frames} frames; {tracked} is tracked": several,
        f"faces: {cuts} {'cuts' if cuts > 1 else 'cut'}; flow is missing across {'them' if cuts > 1 else 'it'}": cuts,
        f"faces: the face changes {times}, perhaps to another person": changes,
    }
    return [text for text, count in texts.items() if count]


def measure_size(record: Record) -> float:
    """Return the median distance of the eyes in the frame in pixels, over the frames in which the face is present."""
    present = np.flatnonzero(record.arrays["found"][()])
    eyes = record.arrays["landmarks"][()][present, :2]
    return float(np.median(np.linalg.norm(eyes[:, 0] - eyes[:, 1], axis=1)))


def statistics(record: Record) -> dict[str, float]:
    """Return the median distance of the eyes in the frame in pixels, the mean brightness of a sample of aligned faces, and
    the fraction of the frames in which the face is present."""
    present = np.flatnonzero(record.arrays["found"][()])
    sample = present[np.unique(np.linspace(0, len(present) - 1, _SAMPLED).round().astype(int))]
    return {
        "pixels between the eyes": measure_size(record),
        "brightness of the face, of 255": float(read_steps(record, sample).mean()),
        "fraction of the frames with a face": len(present) / len(record.arrays["found"]),
    }


STREAM = Stream(
    inputs=("frames", RAW),
    input_key="persons",
    joint_inputs={MAIN: ("frames",), "all": ("frames", RAW)},
    kind="pictures",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    on_gpu=True,
    files=files,
    validate_inputs=validate_inputs,
    summary=summary,
    warnings=warnings,
    statistics=statistics,
)
