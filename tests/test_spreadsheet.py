"""Tables as spreadsheets write them: separators, decimal commas, empty cells at the end, and Excel files."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from lib.core.errors import InputError
from lib.sources._spreadsheet import read_spreadsheet


def write_table(folder: Path, text: str) -> Path:
    path = folder / "clips.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("separator", "number"), [(";", 2.5), ("\t", 2.5), (",", float("inf"))])
def test_decimal_comma_is_read_where_no_commas_separate(tmp_path: Path, separator: str, number: float) -> None:
    cell = '"2,5"' if separator == "," else "2,5"
    sheet = read_spreadsheet(write_table(tmp_path, f"file{separator}warm\na{separator}{cell}\nb{separator}1.5\n"), "x")
    assert sheet.number(2, "warm") == number
    assert sheet.number(3, "warm") == 1.5


def test_empty_cells_after_the_header_are_left_out(tmp_path: Path) -> None:
    sheet = read_spreadsheet(write_table(tmp_path, "file,warm,,\na,1\nb,,,,,\n,,,\nc,3,,\n"), "x")
    assert sheet.header == ["file", "warm"]
    assert sheet.rows == {
        2: {"file": "a", "warm": "1"},
        3: {"file": "b", "warm": ""},
        5: {"file": "c", "warm": "3"},
    }
    with pytest.raises(InputError, match="row 2 has 3 cells; allowed: 2"):
        read_spreadsheet(write_table(tmp_path, "file,warm,,\na,1,2\n"), "x")


def test_excel_file_is_read_as_its_csv(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="requirements-excel.txt is not installed")
    book = openpyxl.Workbook()
    for row in (["file", "warm", None], ["a.mp4", 2.5, None], [7, 3.0, None], [None, None, None], ["c", None, None]):
        book.active.append(row)
    book.save(tmp_path / "clips.xlsx")
    sheet = read_spreadsheet(tmp_path / "clips.xlsx", "x")
    assert sheet.rows == {
        2: {"file": "a.mp4", "warm": "2.5"},
        3: {"file": "7", "warm": "3"},
        5: {"file": "c", "warm": ""},
    }
    (tmp_path / "clips.xlsx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x is not a readable \.xlsx file .*; save it as CSV UTF-8"):
        read_spreadsheet(tmp_path / "clips.xlsx", "x")


def test_excel_without_openpyxl_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "openpyxl":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    (tmp_path / "clips.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"save it as CSV UTF-8, or run: pip install -r requirements-excel\.txt$"):
        read_spreadsheet(tmp_path / "clips.xlsx", "x")


def test_excel_file_called_csv_is_named(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(InputError, match=r"x is an Excel file or archive, not a CSV file; save it as CSV UTF-8"):
        read_spreadsheet(tmp_path / "clips.csv", "x")
