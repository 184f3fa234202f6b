"""Sample every usable clip's frames at a fixed rate: data/frames/, metrics/frames.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lib.core import clips, command, parameters, shards
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.streams import frames

CLIPS, RAW, FRAMES, METRICS = (
    Path(name) for name in ("data/clips.csv", "data/raw", "data/frames", "metrics/frames.json")
)


class Frames(Section):
    fps: Annotated[float, Field(gt=0, le=60)]
    max_side: Annotated[int, Field(ge=64)]
    quality: Annotated[int, Field(ge=1, le=100)]


class Parameters(Section):
    frames: Frames
    parallel: Parallel


def main() -> None:
    given = parameters.load("frames", Parameters)
    settings = given.frames.model_dump()
    table = clips.read(CLIPS)
    if table.empty:
        raise InputError(f"no clip in {CLIPS} is usable; its column `reason` says why")
    shards_ = clips.by_shard(table)
    inputs = {shard: rows[["clip", "sha256"]].to_dict("list") for shard, rows in shards_.items()}

    def make(shard: str) -> Iterator[Record]:
        for row in shards_[shard].itertuples():
            yield frames.sample(RAW / row.file, row.clip, **settings)

    seconds = shards.build("frames", FRAMES, inputs, settings, make, len(table), given.parallel)
    refused = shards.refusals(FRAMES)
    count = sum(map(len, shards.column(FRAMES, "times")))
    summary = {"clips": len(table), "frames": count, "refused": refused, "seconds": seconds}
    METRICS.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    command.run_stage(main)
