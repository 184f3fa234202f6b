"""Read a user's CSV, Excel or Parquet table as text, and report mistakes with row and column."""

import csv
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from lib.core.errors import InputError


@dataclass(frozen=True)
class Spreadsheet:
    """A table of text cells. Rows have the numbers that a spreadsheet shows (the header is row 1); empty rows are left out.

    decimal_comma: whether 2,5 is read as a number; False if commas separate the values.
    """

    name: str
    header: list[str]
    rows: dict[int, dict[str, str]]
    decimal_comma: bool = False

    def find_column(self, *names: str) -> str | None:
        """Return the column that matches the first possible name of `names`, ignoring case, or None."""
        lower = {column.lower(): column for column in self.header}
        return next((lower[name] for name in names if name in lower), None)

    def number(self, row: int, column: str) -> float:
        """Return a cell's number: NaN for an empty cell, infinity for text that is not a number."""
        text = self.rows[row][column]
        try:
            return float(text.replace(",", ".") if self.decimal_comma else text) if text else math.nan
        except ValueError:
            return math.inf

    def error(self, row: int, column: str, value: str, allowed: str) -> InputError:
        """Return the error for a wrong value in a cell."""
        return InputError(f"{self.name}, row {row}, column {column!r}: {value!r}; allowed: {allowed}")


def read_spreadsheet(path: Path, name: str) -> Spreadsheet:
    """Read a .parquet or .xlsx file, or a text file with commas, semicolons or tabs. `name` is the file's name in errors.

    A column without a name is called ''. Empty cells to the right of the header's last name are ignored. Raises InputError
    for any other file, a column that occurs twice, and a row with more or fewer cells than the header.
    """
    readers = {".parquet": _read_parquet, ".xlsx": _read_excel, ".xls": _read_excel}
    separator, lines = readers.get(path.suffix.lower(), _read_text)(path, name)
    header = _strip_end([cell.strip() for cell in lines[0]] if lines else [], 0)
    if not header:
        raise InputError(f"{name} has no header; put the names of the columns into the first row")
    if twice := sorted({column for column in header if column and header.count(column) > 1}):
        raise InputError(f"{name}, row 1: column {twice[0]!r} occurs {header.count(twice[0])} times; allowed: once")
    rows = {}
    for number, line in enumerate(lines[1:], 2):
        cells = _strip_end([cell.strip() for cell in line], len(header))
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise InputError(f"{name}, row {number} has {len(cells)} cells; allowed: {len(header)}, like the header")
        rows[number] = dict(zip(header, cells, strict=True))
    if not rows:
        raise InputError(f"{name} has no rows below the header; add a row for each clip")
    return Spreadsheet(name, header, rows, separator != ",")


def _strip_end(cells: list[str], length: int) -> list[str]:
    """Return the cells without empty cells at the end, but at least the first `length` cells."""
    while len(cells) > length and not cells[-1]:
        cells = cells[:-1]
    return cells


def _read_text(path: Path, name: str) -> tuple[str, list[list[str]]]:
    """Return the separator and the cells of a text file."""
    if path.read_bytes()[:4] == b"PK\x03\x04":
        raise InputError(f"{name} is an Excel file or archive, not a CSV file; save it as CSV UTF-8")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)
            return separator, list(csv.reader(file, delimiter=separator, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{name} is not a readable CSV file ({error}); allowed: UTF-8, with commas, semicolons or tabs between values"
        ) from None


def _read_parquet(path: Path, name: str) -> tuple[str, list[list[str]]]:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise InputError(f"{name} is not a readable Parquet file ({error})") from None
    cells = table.astype(object).where(table.notna(), "").to_numpy().tolist()
    return ",", [list(map(str, table.columns)), *(list(map(str, row)) for row in cells)]


def _read_excel(path: Path, name: str) -> tuple[str, list[list[str]]]:
    """Return the cells of the first sheet of an .xlsx file."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise InputError(
            f"{name} is an Excel file, and openpyxl is not installed; save it as CSV UTF-8, or run:"
            " pip install -r requirements-excel.txt"
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{name} is not a readable .xlsx file ({error}); save it as CSV UTF-8") from None
    return ",", [[_to_text(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)]


def _to_text(cell: Any) -> str:
    """Return the text of an Excel cell, as in a CSV file."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, datetime) else str(cell)
