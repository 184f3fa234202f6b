"""Read a user's CSV or Parquet table as text, and name its mistakes by row and column."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.core.errors import InputError


@dataclass(frozen=True)
class Spreadsheet:
    """Rows by their number as a spreadsheet shows it, the header's being 1; empty rows are left out."""

    name: str
    header: list[str]
    rows: dict[int, dict[str, str]]

    def column(self, *names: str) -> str | None:
        """Return the first column that is called one of `names`, in whatever case, or None."""
        lower = {column.lower(): column for column in self.header}
        return next((lower[name] for name in names if name in lower), None)

    def error(self, row: int, column: str, value: str, allowed: str) -> InputError:
        """The error that names a cell."""
        return InputError(f"{self.name}, row {row}, column {column!r}: {value!r}; allowed: {allowed}")


def read(path: Path, name: str) -> Spreadsheet:
    """Read a .parquet file, or one of values between commas, semicolons or tabs; `name` is what errors call it.

    A column without a name is called ''. Raises InputError if it is neither, has a column twice, or a row of another length
    than the header.
    """
    lines = _parquet(path, name) if path.suffix == ".parquet" else _csv(path, name)
    header = [cell.strip() for cell in lines[0]] if lines else []
    if not any(header):
        raise InputError(f"{name} has no header; allowed: names of columns in the first row")
    if twice := sorted({column for column in header if column and header.count(column) > 1}):
        raise InputError(f"{name}, row 1: column {twice[0]!r} is there {header.count(twice[0])} times; allowed: once")
    rows = {}
    for number, line in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) != len(header):
            raise InputError(f"{name}, row {number} has {len(line)} cells; allowed: {len(header)}, as the header has")
        rows[number] = dict(zip(header, (cell.strip() for cell in line), strict=True))
    if not rows:
        raise InputError(f"{name} has no row but the header")
    return Spreadsheet(name, header, rows)


def _csv(path: Path, name: str) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            return list(csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} is no readable CSV file ({error}); allowed: UTF-8, values between commas") from None


def _parquet(path: Path, name: str) -> list[list[str]]:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise InputError(f"{name} is no readable Parquet file ({error})") from None
    cells = table.astype(object).where(table.notna(), "").to_numpy().tolist()
    return [list(map(str, table.columns)), *(list(map(str, row)) for row in cells)]
