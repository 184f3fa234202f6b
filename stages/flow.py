"""Compute TV-L1 optical flow between consecutive aligned faces: data/flow/, metrics/flow.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lib.core import command, parameters, shards
from lib.core.device import best_device
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.streams.flow.make import flow as flow_of

FACES, FLOW, METRICS = Path("data/faces"), Path("data/flow"), Path("metrics/flow.json")


class Flow(Section):
    backend: Literal["torch", "opencv"]
    lambda_: Annotated[float, Field(gt=0, alias="lambda")]
    theta: Annotated[float, Field(gt=0)]
    tau: Annotated[float, Field(gt=0, le=0.25)]
    scales: Annotated[int, Field(ge=1)]
    scale_step: Annotated[float, Field(gt=0, lt=1)]
    warps: Annotated[int, Field(ge=1)]
    iterations: Annotated[int, Field(ge=1)]
    epsilon: Annotated[float, Field(ge=0)]
    median: bool
    bound: Annotated[float, Field(gt=0)]


class Parameters(Section):
    flow: Flow
    parallel: Parallel


def main() -> None:
    given = parameters.load("flow", Parameters)
    settings = given.flow.model_dump()
    solver = given.flow.model_dump(exclude={"backend", "bound"})
    backend, bound = given.flow.backend, given.flow.bound

    def make(shard: str) -> Iterator[Record]:
        for record in shards.read(FACES / f"{shard}.h5"):
            yield flow_of(record, backend, solver, bound, best_device())

    inputs, clips = shards.inputs_from(FACES), shards.count_clips(FACES)
    seconds = shards.build("flow", FLOW, inputs, settings, make, clips, given.parallel, gpu=True)
    METRICS.write_text(json.dumps(summary() | {"seconds": seconds}, indent=2) + "\n")


def summary() -> dict:
    """Count pairs and average the motion over clips."""
    valid = list(shards.column(FLOW, "valid"))
    motion = list(shards.attribute(FLOW, "mean_motion"))
    return {
        "clips": len(motion),
        "pairs": sum(map(len, valid)),
        "valid_pairs": int(sum(one.sum() for one in valid)),
        "mean_motion_pixels": round(float(np.mean(motion)), 3) if motion else None,
    }


if __name__ == "__main__":
    command.run_stage(main)
