"""Pool each clip's faces and flow into a hand-made descriptor, for the ridge baseline: data/descriptors/,
metrics/descriptors.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lib.core import command, parameters, shards
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.streams.descriptors import descriptor

FACES, FLOW, DESCRIPTORS, METRICS = (
    Path(name) for name in ("data/faces", "data/flow", "data/descriptors", "metrics/descriptors.json")
)


class Descriptors(Section):
    face_cells: Annotated[int, Field(ge=1)]
    flow_cells: Annotated[int, Field(ge=1)]


class Parameters(Section):
    descriptors: Descriptors
    parallel: Parallel


def main() -> None:
    given = parameters.load("descriptors", Parameters)
    settings = given.descriptors.model_dump()

    def make(shard: str) -> Iterator[Record]:
        for faces, flow in zip(shards.read(FACES / f"{shard}.h5"), shards.read(FLOW / f"{shard}.h5"), strict=True):
            if flow.refused:
                yield flow
            else:
                pooled = descriptor(faces.arrays, flow.arrays, flow.attributes["scale"], **settings)
                yield Record(flow.clip, {"descriptor": pooled})

    faces, flow = shards.inputs_from(FACES), shards.inputs_from(FLOW)
    inputs = {name: [faces[name], flow[name]] for name in flow}
    clips = shards.count_clips(FLOW)
    seconds = shards.build("descriptors", DESCRIPTORS, inputs, settings, make, clips, given.parallel)
    METRICS.write_text(json.dumps({"clips": clips, "seconds": seconds}, indent=2) + "\n")


if __name__ == "__main__":
    command.run_stage(main)
