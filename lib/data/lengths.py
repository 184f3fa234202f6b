"""Lengths of clips by stream and split: number of frames, of audio steps, of words."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.core.shards import Record
from lib.data.shard_cache import read_clips
from lib.streams import base

if TYPE_CHECKING:  # predictions do not need pandas, which loads slowly
    import pandas as pd

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
"""Name of each quantile in metrics/lengths.json."""

Lengths = dict[str, dict[str, dict[str, float]]]
"""Stream, or stream.array for an array with its own steps -> split -> `clips`, `mean`, `min`, QUANTILES and `max`."""


def measure_lengths(tables: Mapping[str, "pd.DataFrame"], data: Path, streams: Mapping[str, object]) -> Lengths:
    """Return the numbers of present steps of each stream in the clips of each split.

    tables: clips by split. streams: names of folders of shards below `data`. Rejected clips, and streams with one vector
    per clip, are left out. Transcripts also have a number of words.
    """
    counts: dict[str, dict[str, list[int]]] = {}
    for split, table in tables.items():
        for shard, rows in table.groupby("shard"):
            for stream in streams:
                for record in read_clips(data, stream, str(shard), rows["clip"]):
                    for name, count in count_steps(stream, record):
                        counts.setdefault(name, {}).setdefault(split, []).append(count)
    return {
        name: {split: _summarise(lengths) for split, lengths in by_split.items()} for name, by_split in counts.items()
    }


def count_steps(stream: str, record: Record) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of present steps of a record, and of its arrays that have their own steps."""
    if record.rejected:
        return
    if "times" in record.arrays:
        yield stream, len(base.present_steps(record))
    for key in record.arrays:
        if key.endswith(".times"):
            yield f"{stream}.{key.removesuffix('.times')}", len(record.arrays[key])
    if "words" in record.attributes:
        yield f"{stream} (words)", int(record.attributes["words"])


def _summarise(lengths: list[int]) -> dict[str, float]:
    quantiles = np.quantile(lengths, list(QUANTILES.values()))
    ends = {"clips": len(lengths), "mean": round(float(np.mean(lengths)), 2), "min": min(lengths)}
    return ends | dict(zip(QUANTILES, quantiles.round(2).tolist(), strict=True)) | {"max": max(lengths)}
