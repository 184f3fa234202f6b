"""Read groups of persons (gender, ethnicity, age) from optional annotation files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from lib.core.errors import InputError
from lib.sources._matching import ClipNames, show_three
from lib.sources._spreadsheet import read_spreadsheet

MAX_GROUPS = 20
"""A column with more values is not a column of groups."""

Codes = Mapping[str, Mapping[str, str]]
"""The meaning of the codes in each column of a file."""

_USERS_FILES = "groups*.csv", "groups*.xlsx"
_CLIP = r".+\.\d{3}\.mp4"


def read_groups(
    files: Iterable[Path], clips: Iterable[str], patterns: Mapping[str, Codes], rejected: Iterable[str] = ()
) -> pd.DataFrame:
    """Return a table with a row for each of `clips` and a text column for each kind of group, '' for an unknown group.

    The groups come from groups*.csv and groups*.xlsx (one column of clips, all others are groups) and from the files that
    match a source's `patterns`. Clips are named as in clips.csv, with or without suffix. Rows of the user's files that match
    neither `clips` nor `rejected` are printed. Raises InputError for a file without a column of clips or without any known
    clip, for a column of more than MAX_GROUPS values, and for two files that contradict each other.
    """
    table = pd.DataFrame({"clip": sorted(clips)})
    names = ClipNames([*table["clip"], *rejected])
    groups: dict[str, pd.Series] = {}
    patterns = {**dict.fromkeys(_USERS_FILES, {}), **patterns}
    wanted = {path: pattern for path in files for pattern in patterns if path.match(pattern)}
    for path, pattern in sorted(wanted.items()):
        rows = _match(path, _read(path, patterns[pattern]), names, report=pattern in _USERS_FILES)
        for kind, values in rows.items():
            before = groups.get(str(kind), pd.Series(dtype=object))
            in_both = before.index.intersection(values.index)
            if (differ := before[in_both] != values[in_both]).any():
                clip = differ.index[differ][0]
                raise InputError(
                    f"{path}: {kind} of {clip} is {values[clip]!r}, but {before[clip]!r} in another file; correct one"
                )
            groups[str(kind)] = pd.concat([before, values[values.index.difference(in_both)]])
    return table.assign(**{kind: table["clip"].map(values).fillna("") for kind, values in groups.items()})


def _match(path: Path, rows: pd.DataFrame, names: ClipNames, report: bool) -> pd.DataFrame:
    """Return the rows indexed by clip. With `report`, print the number of rows that match no clip."""
    clips = rows.index.map(names.find)
    if report and (lost := rows.index[clips.isna()].tolist()):
        text = f"{path}: {len(lost)} of {len(rows)} rows match no clip of the corpus: {show_three(lost)}"
        if len(lost) == len(rows):
            raise InputError(f"{text}; name clips as in data/clips.csv, with or without suffix")
        print(text)
    rows = rows.set_axis(clips, axis=0)[clips.notna()]
    if (twice := rows.index[rows.index.duplicated()]).size:
        raise InputError(f"{path} has clip {twice[0]} twice; allowed: one row per clip. Remove a row")
    return rows


def _read(path: Path, codes: Codes) -> pd.DataFrame:
    """Return a file's groups, indexed by the names in its column of clips."""
    table = pd.DataFrame.from_dict(read_spreadsheet(path, str(path)).rows, orient="index")
    table = table.drop(columns="", errors="ignore")  # pandas writes row numbers without a header
    table.columns = table.columns.str.lower()
    if (twice := table.columns[table.columns.duplicated()]).size:
        raise InputError(f"{path} has the column {twice[0]!r} twice (ignoring case); rename or remove one of them")
    clip_column = _find_clip_column(path, table)
    kinds = [column for column in table if column not in (clip_column, "youtubeid")]
    table[kinds] = (
        table[kinds].replace("NA", "").replace(r"^(\d+)[.,]0+$", r"\1", regex=True)
    )  # spreadsheets write the code 2 as 2.0
    for kind in kinds:
        values = sorted(table[kind].unique())
        if len(values) > MAX_GROUPS:
            raise InputError(
                f"{path}: column {kind!r} has {len(values)} values ({', '.join(values[:3])}, ...); allowed: up to"
                f" {MAX_GROUPS} groups; remove the column, or merge its values to groups"
            )
        table[kind] = table[kind].replace(codes.get(kind, {}))
    return table.set_index(clip_column)[kinds]


def _find_clip_column(path: Path, table: pd.DataFrame) -> str:
    """Return the column of clips: the column called clip or file, else the column with names like VIDEO.NNN.mp4."""
    for name in ("clip", "file"):
        if name in table:
            return name
    matches = {column: table[column].str.fullmatch(_CLIP) for column in table}
    for column, is_clip in matches.items():
        if 2 * is_clip.sum() <= len(table):
            continue
        if not is_clip.all():
            row = table.index[~is_clip][0]
            raise InputError(
                f"{path}, row {row}, column {column!r}: {table[column][row]!r}; allowed: names like VIDEO.NNN.mp4,"
                " or any name in a column called clip"
            )
        return str(column)
    raise InputError(
        f"{path} has the columns {', '.join(table.columns)}, none with clips; required: a column called clip or file, or one"
        " with names like VIDEO.NNN.mp4"
    )
