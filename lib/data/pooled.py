"""Vectors of clips, pooled over time: the inputs of the linear baselines."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.core import shards
from lib.core.shards import Record
from lib.streams import base


def pool_vectors(data: Path) -> dict[str, pd.DataFrame]:
    """Return a table for each enabled stream of vectors, with one row of pooled numbers per clip.

    If a stream's vectors consist of several parts (the attribute `parts` of its records: part -> number of values), there is
    also a table STREAM.PART for each part. Columns have the names of the numbers if the stream names them. data: the folder
    of the streams.
    """
    tables = {}
    for name in base.names():
        stream = base.load(name)
        if stream.kind == "vectors" and (data / name / base.ABOUT).exists():
            several = any(
                len(base.present_steps(record, array)) > 1
                for record in _read_records(data / name)
                for array in stream.pooled_arrays
            )
            pooled: dict[str, np.ndarray] = {}
            parts: dict[str, int] = {}
            columns: list[str] | None = None
            for record in _read_records(data / name):
                pooled[record.clip] = base.pool_steps(stream, record, several)
                columns = base.read_names(record).get("statistics")
                parts |= json.loads(record.attributes.get("parts", "{}"))
            tables[name] = pd.DataFrame.from_dict(pooled, orient="index", columns=columns)
            ends = np.cumsum([0, *parts.values()])
            for part, start, stop in zip(parts, ends, ends[1:], strict=False) if len(parts) > 1 else ():
                # for clips with several steps, the standard deviations follow the means
                in_part = (tables[name].columns % ends[-1] >= start) & (tables[name].columns % ends[-1] < stop)
                tables[f"{name}.{part}"] = tables[name].loc[:, in_part].dropna(how="all")  # a clip may lack a part
    return tables


def read_statistics(data: Path) -> dict[str, tuple[pd.DataFrame, Mapping[str, str]]]:
    """Return the clips' statistics and the groups of the measures, for each enabled stream with named measures.

    A table has a row for each clip and the columns MEASURE.STATISTIC. data: the folder of the streams.
    """
    tables = {}
    for name in base.names():
        stream = base.load(name)
        if stream.groups and (data / name / base.ABOUT).exists():
            rows: dict[str, np.ndarray] = {}
            columns: list[str] | None = None
            for record in _read_records(data / name):
                rows[record.clip] = record.arrays["statistics"][0]
                columns = base.read_names(record)["statistics"]
            tables[name] = pd.DataFrame.from_dict(rows, orient="index", columns=columns), stream.groups
    return tables


def _read_records(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.glob("*.h5")):
        yield from (record for record in shards.read_all(path).values() if not record.refused)
