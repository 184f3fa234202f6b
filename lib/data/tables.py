"""Write a stream of vectors as CSV tables that spreadsheets, R and users of OpenFace read."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lib.core import resume, shards
from lib.core.shards import Record
from lib.data.inputs import split_reference
from lib.streams import base

STATISTICS = "statistics"
"""The array with one row per clip of a stream whose numbers have names."""


def write_tables(data: Path, reference: str, out: Path) -> dict[str, int]:
    """Write the vectors of a stream, or of one of its arrays, as CSV; return the number of steps of each clip.

    A row has the clip, the number of the frame (from 1), the time in seconds and, if the stream has valid steps, `success`,
    as in OpenFace. Columns have the names of the numbers, those of OpenFace where the meaning is the same, in its unit;
    otherwise v0, v1, ... Missing numbers are empty. A stream with statistics has a second table, OUT.clips.csv, with a row
    for each clip; STREAM.statistics is this table only.
    """
    name, array = split_reference(reference)
    stream, steps = base.load(name), dict[str, int]()
    targets = {array: out}
    if reference == name and STATISTICS in stream.arrays:
        targets = {array: out, STATISTICS: out.with_suffix(".clips.csv")}
    partials = {path: path.with_name(f"{path.name}.partial") for path in targets.values()}
    with ExitStack() as files:
        writers = {
            key: csv.writer(files.enter_context(partials[path].open("w", newline="")), lineterminator="\n")
            for key, path in targets.items()
        }
        for record in _read_records(data / name):
            for key, writer in writers.items():
                rows = list(_make_rows(stream, record, key))
                if not steps:
                    writer.writerow(rows[0])
                writer.writerows(rows[1:])
            steps[record.clip] = len(base.present_steps(record, array))
    for path, partial in partials.items():
        resume.finish_file(partial, path)
    return steps


def _read_records(folder: Path) -> Iterator[Record]:
    """Yield the records of a stream's folder that are not rejected."""
    for path in sorted(folder.glob("*.h5")):
        yield from (record for record in shards.read_records(path) if not record.rejected)


def _make_rows(stream: base.Stream, record: Record, array: str) -> Iterator[list[str]]:
    """Yield the header and the rows of a clip's steps."""
    indices = base.present_steps(record, array)
    values = stream.read(record, indices, array).astype(float).reshape(len(indices), -1)
    names = base.read_names(record).get(array, [f"v{number}" for number in range(values.shape[1])])
    columns = _rename(names, stream.table_columns)
    values = values * [stream.table_columns.get(name, ("", 1.0))[1] for name in names]
    if array == STATISTICS:
        yield ["clip", *names]
        yield from ([record.clip, *map(_format, row)] for row in stream.read(record, indices, array))
        return
    valid = record.arrays.get("valid")
    yield ["clip", "frame", "timestamp", *(["success"] if valid is not None else []), *columns]
    for index, time, row in zip(indices, base.step_times(record, array)[indices], values, strict=True):
        success = [] if valid is None else [str(int(valid[index]))]
        yield [record.clip, str(index + 1), _format(time), *success, *map(_format, row)]


def _rename(names: list[str], columns: Mapping[str, tuple[str, float]]) -> list[str]:
    """Return the names of the columns in the table."""
    return [columns.get(name, (name, 1.0))[0] for name in names]


def _format(value: float) -> str:
    """Return a number with seven significant digits; empty for NaN."""
    return "" if np.isnan(value) else f"{value:.7g}"
