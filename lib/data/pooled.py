"""Vectors of clips, pooled over time: the inputs of the linear baselines."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.core.shards import Record
from lib.data.shard_cache import read_uncached
from lib.streams import base
from lib.streams.base import Stream


def pool_vectors(data: Path) -> dict[str, pd.DataFrame]:
    """Return a table for each enabled stream of vectors, with one row of pooled numbers per clip.

    If a stream's vectors consist of several parts (the attribute `parts` of its records: part -> number of values), there is
    also a table STREAM.PART for each part. Columns have the names of the numbers if the stream names them. data: the folder
    of the streams.
    """
    tables = {}
    for name in base.list_names():
        stream = base.load(name)
        if stream.kind == "vectors" and (data / name / base.ABOUT).exists():
            single = _pool_stream(stream, data, deviations=False)
            tables[name], parts = single or _pool_stream(stream, data, deviations=True)  # type: ignore[misc]
            ends = np.cumsum([0, *parts.values()])
            for part, start, stop in zip(parts, ends, ends[1:], strict=False) if len(parts) > 1 else ():
                # for clips with several steps, the standard deviations follow the means
                in_part = (tables[name].columns % ends[-1] >= start) & (tables[name].columns % ends[-1] < stop)
                tables[f"{name}.{part}"] = tables[name].loc[:, in_part].dropna(how="all")  # a clip may lack a part
    return tables


def _pool_stream(stream: Stream, data: Path, deviations: bool) -> tuple[pd.DataFrame, dict[str, int]] | None:
    """Return the pooled numbers of each clip and the size of each part; None for several steps without `deviations`."""
    pooled: dict[str, np.ndarray] = {}
    parts: dict[str, int] = {}
    columns: list[str] | None = None
    for record in _read_records(data, stream.name):
        if not deviations and any(len(base.present_steps(record, array)) > 1 for array in stream.pooled_arrays):
            return None
        pooled[record.clip] = base.pool_steps(stream, record, deviations)
        columns = base.read_names(record).get("statistics")
        parts |= json.loads(record.attributes.get("parts", "{}"))
    rows = np.array([*pooled.values()], float) if pooled else None  # much faster than DataFrame.from_dict
    return pd.DataFrame(rows, [*pooled], columns), parts


def read_statistics(data: Path) -> dict[str, tuple[pd.DataFrame, Mapping[str, str]]]:
    """Return the clips' statistics and the groups of the measures, for each enabled stream with named measures.

    A table has a row for each clip and the columns MEASURE.STATISTIC. data: the folder of the streams.
    """
    tables = {}
    for name in base.list_names():
        stream = base.load(name)
        if stream.groups and (data / name / base.ABOUT).exists():
            rows: dict[str, np.ndarray] = {}
            columns: list[str] | None = None
            for record in _read_records(data, name):
                rows[record.clip] = record.arrays["statistics"][0]
                columns = base.read_names(record)["statistics"]
            tables[name] = pd.DataFrame.from_dict(rows, orient="index", columns=columns), stream.groups
    return tables


def _read_records(data: Path, name: str) -> Iterator[Record]:
    for path in sorted((data / name).glob("*.h5")):
        records = read_uncached(data, name, path.stem)
        yield from (record for record in records.values() if not record.rejected)
