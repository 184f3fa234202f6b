"""TV-L1 optical flow between consecutive aligned faces."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.shards import Record
from lib.streams.base import Stream, StreamSettings
from lib.streams.flow.fields import read_flow as read_steps


class Settings(StreamSettings):
    """The settings of `lib.streams.flow.solver.Solver`; backend; bound: largest stored displacement in pixels."""

    backend: Literal["torch", "opencv"]
    lambda_: Annotated[float, Field(gt=0, le=100, alias="lambda")]
    theta: Annotated[float, Field(gt=0, le=100)]
    tau: Annotated[float, Field(ge=0.001, le=100)]
    scales: Annotated[int, Field(ge=1, le=20)]
    scale_step: Annotated[float, Field(gt=0, lt=1)]
    warps: Annotated[int, Field(ge=1, le=100)]
    iterations: Annotated[int, Field(ge=1, le=10_000)]
    epsilon: Annotated[float, Field(ge=0, le=1)]
    median: bool
    bound: Annotated[float, Field(gt=0, le=1000)]


def make_extractor(settings: Settings) -> Callable[[Record], Record]:
    """Return a function that computes the flow between a clip's faces. A thread loads its compiled code in advance."""
    from lib.core.device import best_device  # not needed to read the stream's shards
    from lib.streams.flow.make import compute_flow, warm_up
    from lib.streams.flow.solver import Solver

    solver, device = Solver(**settings.model_dump(exclude={"enabled", "backend", "bound"})), best_device()
    threading.Thread(target=warm_up, args=(settings.backend, solver, device)).start()
    return lambda faces: compute_flow(faces, settings.backend, solver, settings.bound, device)


def summary(folder: Path) -> dict[str, Any]:
    """Return the numbers of pairs and of valid pairs, and the mean motion over clips."""
    valid = list(shards.read_arrays(folder, "valid"))
    motion = list(shards.read_attributes(folder, "mean_motion"))
    return {
        "pairs": sum(map(len, valid)),
        "valid_pairs": int(sum(mask.sum() for mask in valid)),
        "mean_motion_pixels": round(float(np.mean(motion)), 3) if motion else None,
    }


STREAM = Stream(
    inputs=("faces",),
    kind="flow",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    on_gpu=True,
    summary=summary,
)
