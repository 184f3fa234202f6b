"""Read the regions and times that people marked as evidence for a target (cues.csv)."""

import math
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from lib.core.errors import InputError
from lib.sources._matching import ClipNames, show_three
from lib.sources._spreadsheet import Spreadsheet, read_spreadsheet

COLUMNS = ("clip", "target", "start", "end", "x", "y", "w", "h")
"""Columns of the table. x, y: upper left corner of the box in fractions of the frame's width and height; w, h: sides."""

_FILES = ("cues.csv", "cues.xlsx")
_TIME, _BOX = COLUMNS[2:4], COLUMNS[4:]
_ROUNDING = 1e-3  # a box may end this far outside the frame


def read_cues(
    files: Iterable[Path], clips: Iterable[str], targets: Collection[str], rejected: Iterable[str] = ()
) -> pd.DataFrame:
    """Return the cues of all files with the columns COLUMNS, sorted; without a file an empty table.

    A row has a box, a time from `start` to `end` in seconds, or both; the other cells are NaN. target: one of `targets`, or
    '' for all. Clips are named as in clips.csv, with or without suffix. Rows that match neither `clips` nor `rejected` are
    printed. Raises InputError with row, column, value and allowed values at the first mistake.
    """
    usable_names = [*clips]
    names, usable = ClipNames([*usable_names, *rejected]), set(usable_names)
    rows: list[dict[str, object]] = []
    for path in sorted(path for path in files if path.name.lower() in _FILES):
        sheet, lost = read_spreadsheet(path, str(path)), list[str]()
        if missing := [column for column in COLUMNS if sheet.find_column(column) is None]:
            raise InputError(
                f"{sheet.name} has the columns {', '.join(sheet.header)}; required: {', '.join(COLUMNS)}; add {missing[0]}"
            )
        for number in sheet.rows:
            row = _read_row(sheet, number, targets)
            clip = names.find(str(row["clip"]))
            if clip is None:
                lost.append(str(row["clip"]))
            elif clip in usable:
                rows.append(row | {"clip": clip})
        if lost:
            text = (
                f"{sheet.name}: {len(lost)} of {len(sheet.rows)} rows match no clip of the corpus: {show_three(lost)}"
            )
            if len(lost) == len(sheet.rows):
                raise InputError(f"{text}; name clips as in data/clips.csv, with or without suffix")
            print(text)
    return pd.DataFrame(rows, columns=[*COLUMNS]).sort_values([*COLUMNS], ignore_index=True)


def _read_row(sheet: Spreadsheet, number: int, targets: Collection[str]) -> dict[str, object]:
    columns = {name: str(sheet.find_column(name)) for name in COLUMNS}
    texts = {name: sheet.rows[number][column] for name, column in columns.items()}
    if texts["target"] not in ("", *targets):
        allowed = f"{', '.join(targets)}, or empty for all targets"
        raise sheet.error(number, columns["target"], texts["target"], allowed)
    values = {name: sheet.number(number, columns[name]) for name in (*_TIME, *_BOX)}
    for name, value in values.items():
        most = math.inf if name in _TIME else 1
        if math.isinf(value) or value < 0 or value > most or (name in "wh" and value == 0):
            allowed = "seconds from 0 on" if name in _TIME else "a fraction of the frame from 0 to 1"
            raise sheet.error(number, columns[name], texts[name], f"{allowed}{', above 0' if name in 'wh' else ''}")
    for part in (_TIME, _BOX):
        filled = [name for name in part if not math.isnan(values[name])]
        if filled and len(filled) < len(part):
            empty = next(name for name in part if name not in filled)
            raise sheet.error(
                number, columns[empty], "", f"a number, because {filled[0]} has one; or {', '.join(part)} empty"
            )
    if all(math.isnan(value) for value in values.values()):
        raise sheet.error(number, columns["start"], "", "a time (start, end), a box (x, y, w, h), or both")
    if values["end"] <= values["start"]:
        raise sheet.error(number, columns["end"], texts["end"], f"a time after start, {values['start']:g}")
    for corner, side in (("x", "w"), ("y", "h")):
        if values[corner] + values[side] > 1 + _ROUNDING:
            raise sheet.error(
                number, columns[side], texts[side], f"up to {1 - values[corner]:g}, the edge of the frame"
            )
    return {"clip": texts["clip"], "target": texts["target"], **values}
