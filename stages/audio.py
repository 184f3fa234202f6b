"""Extract MFCC and log-mel spectrograms from every usable clip's sound: data/audio/, metrics/audio.json."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lib.core import clips, command, parameters, shards
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.streams import audio

CLIPS, RAW, AUDIO, METRICS = (Path(name) for name in ("data/clips.csv", "data/raw", "data/audio", "metrics/audio.json"))


class Audio(Section):
    enabled: bool
    sample_rate: Annotated[int, Field(ge=4000)]
    window: Annotated[float, Field(gt=0, le=1)]
    step: Annotated[float, Field(gt=0, le=1)]
    mels: Annotated[int, Field(ge=8)]
    mfcc: Annotated[int, Field(ge=1)]


class Parameters(Section):
    audio: Audio
    parallel: Parallel


def main() -> None:
    given = parameters.load("audio", Parameters)
    settings = given.audio.model_dump(exclude={"enabled"})
    table = clips.read(CLIPS)
    if not given.audio.enabled:
        table = table.head(0)
    shards_ = clips.by_shard(table)
    inputs = {shard: rows[["clip", "sha256"]].to_dict("list") for shard, rows in shards_.items()}

    def make(shard: str) -> Iterator[Record]:
        for row in shards_[shard].itertuples():
            yield audio.features(RAW / row.file, row.clip, **settings)

    seconds = shards.build("audio", AUDIO, inputs, settings, make, len(table), given.parallel)
    refused = shards.refusals(AUDIO)
    steps = sum(map(len, shards.column(AUDIO, "times")))
    summary = {
        "clips": len(table) - len(refused),
        "hours": round(steps * given.audio.step / 3600, 3),
        "refused": dict(Counter(refused.values())),
        "seconds": seconds,
    }
    METRICS.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    command.run_stage(main)
