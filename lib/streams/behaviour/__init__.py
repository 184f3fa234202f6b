"""Behaviour of the tracked person by name: head pose, position, eyes, mouth, brows and motion."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lib.core import shards
from lib.core.shards import Record
from lib.streams._measures import ARRAYS, DETAILED, read_steps
from lib.streams.base import Stream, StreamSettings
from lib.streams.behaviour.measures import MEASURES


class Settings(StreamSettings):
    """focal_length: in units of the frame's longer side. max_pose_error: in distances between the eyes. away_from: in
    degrees."""

    focal_length: Annotated[float, Field(ge=0.2, le=10)]
    max_pose_error: Annotated[float, Field(gt=0, le=1)]
    away_from: Annotated[float, Field(gt=0, le=90)]


def make_extractor(settings: Settings) -> Callable[[Record, Record, Record, Record], Record]:
    """Return a function that measures a clip's behaviour from its frames, faces, landmarks and flow."""
    from lib.streams.behaviour.extract import measure_behaviour  # not needed to read the stream's shards

    limits = settings.focal_length, settings.max_pose_error, settings.away_from
    return lambda frames, faces, landmarks, flow: measure_behaviour(frames, faces, landmarks, flow, limits)


def summary(folder: Path) -> dict[str, Any]:
    """Return the numbers of steps and of valid steps, the mean error of the pose, and the measures that are absent."""
    valid = list(shards.read_arrays(folder, "valid"))
    errors = [float(value) for value in shards.read_attributes(folder, "mean_pose_error")]
    absent = Counter(name for names in shards.read_attributes(folder, "absent") for name in json.loads(names))
    return {
        "steps": sum(map(len, valid)),
        "valid_steps": int(sum(mask.sum() for mask in valid)),
        "mean_pose_error": round(sum(errors) / len(errors), 4) if errors else None,
        "absent": dict(absent),
    }


STREAM = Stream(
    inputs=("frames", "faces", "landmarks", "flow"),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    arrays=ARRAYS,
    detailed=DETAILED,
    groups={measure.name: measure.group for measure in MEASURES},
    table_columns={measure.name: measure.openface for measure in MEASURES if measure.openface},
    summary=summary,
)
