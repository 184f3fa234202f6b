"""Find, follow and align the speaker's face in every clip: data/faces/, metrics/faces.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from lib.core import command, parameters, shards
from lib.core.device import best_device
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.streams.faces.align import ABSENT, DETECTED, INTERPOLATED, Aligner

FRAMES, FACES, METRICS = Path("data/frames"), Path("data/faces"), Path("metrics/faces.json")


class Faces(Section):
    size: Annotated[int, Field(ge=32, le=512)]
    min_face: Annotated[int, Field(ge=12)]
    min_found: Annotated[float, Field(ge=0, le=1)]
    max_gap: Annotated[float, Field(ge=0)]


class Parameters(Section):
    faces: Faces
    parallel: Parallel


def main() -> None:
    given = parameters.load("faces", Parameters)
    settings = given.faces.model_dump()

    def make(shard: str) -> Iterator[Record]:
        aligner = Aligner(**settings, device=best_device())
        return map(aligner, shards.read(FRAMES / f"{shard}.h5"))

    inputs, clips = shards.inputs_from(FRAMES), shards.count_clips(FRAMES)
    seconds = shards.build("faces", FACES, inputs, settings, make, clips, given.parallel, gpu=True)
    METRICS.write_text(json.dumps(summary() | {"seconds": seconds}, indent=2) + "\n")


def summary() -> dict:
    """Count frames by how the face was found, and list the refused clips."""
    found = sum((np.bincount(one, minlength=3) for one in shards.column(FACES, "found")), np.zeros(3, int))
    refused = shards.refusals(FACES)
    return {
        "clips": shards.count_clips(FACES) - len(refused),
        "frames": int(found.sum()),
        "detected": int(found[DETECTED]),
        "interpolated": int(found[INTERPOLATED]),
        "absent": int(found[ABSENT]),
        "frames_with_several_faces": int(sum(shards.attribute(FACES, "frames_with_several_faces"))),
        "refused": refused,
    }


if __name__ == "__main__":
    command.run_stage(main)
