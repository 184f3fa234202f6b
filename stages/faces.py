"""Find, follow and align the speaker's face in every clip: data/faces/, metrics/faces.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from lib import errors, parameters, shards
from lib.device import best_device
from lib.faces.align import ABSENT, DETECTED, INTERPOLATED, Aligner
from lib.parameters import Section
from lib.shards import Record

FRAMES, FACES, METRICS = Path("data/frames"), Path("data/faces"), Path("metrics/faces.json")


class Faces(Section):
    size: Annotated[int, Field(ge=32, le=512)]
    min_face: Annotated[int, Field(ge=12)]
    min_found: Annotated[float, Field(ge=0, le=1)]
    max_gap: Annotated[float, Field(ge=0)]


class Parameters(Section):
    faces: Faces


def main() -> None:
    settings = parameters.load("faces", Parameters).faces.model_dump()
    aligner = Aligner(**settings, device=best_device())

    def make(shard: str) -> Iterator[Record]:
        return map(aligner, shards.read(FRAMES / f"{shard}.h5"))

    shards.build("faces", FACES, shards.inputs_from(FRAMES), settings, make, shards.count_clips(FRAMES))
    METRICS.write_text(json.dumps(summary(), indent=2) + "\n")


def summary() -> dict:
    """Count frames by how the face was found, and list the refused clips."""
    found, several = np.zeros(3, int), 0
    for path in sorted(FACES.glob("*.h5")):
        for record in shards.read(path):
            if not record.refused:
                found += np.bincount(record.arrays["found"], minlength=3)
                several += int(record.attributes["frames_with_several_faces"])
    refused = shards.refusals(FACES)
    return {
        "clips": shards.count_clips(FACES) - len(refused),
        "frames": int(found.sum()),
        "detected": int(found[DETECTED]),
        "interpolated": int(found[INTERPOLATED]),
        "absent": int(found[ABSENT]),
        "frames_with_several_faces": several,
        "refused": refused,
    }


if __name__ == "__main__":
    errors.run(main)
