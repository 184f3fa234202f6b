"""Read the groups of persons (gender, ethnicity, age) from annotation files, where the user has them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from lib.core.errors import InputError
from lib.sources.matching import ClipNames, show_three
from lib.sources.spreadsheet import read_spreadsheet

MAX_GROUPS = 20
"""A column with more values is not a column of groups."""

Codes = Mapping[str, Mapping[str, str]]
"""The meaning of the codes in each column of a file."""

_USERS_FILES = "groups*.csv", "groups*.xlsx"
_CLIP = r".+\.\d{3}\.mp4"


def read_groups(
    files: Iterable[Path], clips: Iterable[str], patterns: Mapping[str, Codes], rejected: Iterable[str] = ()
) -> pd.DataFrame:
    """Return a row for each of `clips` and a column for each kind of group: text, empty for a clip without a group.

    The groups come from the files groups*.csv and groups*.xlsx (a column of clips, all others are groups), and from the
    `patterns` of the sources. Clips are named as in clips.csv, with or without suffix. Rows of the user's files that name
    none of `clips` and `rejected` are printed. Raises InputError for a file without a column of clips or without a row for
    any clip, for a column of more than MAX_GROUPS values, and for two files that disagree about a clip.
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
            both = before.index.intersection(values.index)
            if (differ := before[both] != values[both]).any():
                clip = differ.index[differ][0]
                raise InputError(f"{path}: {kind} of {clip} is {values[clip]!r}; another file says {before[clip]!r}")
            groups[str(kind)] = pd.concat([before, values[values.index.difference(both)]])
    return table.assign(**{kind: table["clip"].map(values).fillna("") for kind, values in groups.items()})


def _match(path: Path, rows: pd.DataFrame, names: ClipNames, report: bool) -> pd.DataFrame:
    """Return the rows under the names of clips; with `report`, print how many rows name no clip."""
    clips = rows.index.map(names.find)
    if report and (lost := rows.index[clips.isna()].tolist()):
        text = f"{path}: {len(lost)} of {len(rows)} rows name no clip of the corpus: {show_three(lost)}"
        if len(lost) == len(rows):
            raise InputError(f"{text}; write clips as in data/clips.csv, with or without suffix")
        print(text)
    rows = rows.set_axis(clips, axis=0)[clips.notna()]
    if (twice := rows.index[rows.index.duplicated()]).size:
        raise InputError(f"{path} has clip {twice[0]} twice")
    return rows


def _read(path: Path, codes: Codes) -> pd.DataFrame:
    """Return a file's groups, a row for each name in its column of clips."""
    table = pd.DataFrame.from_dict(read_spreadsheet(path, str(path)).rows, orient="index")
    table = table.drop(columns="", errors="ignore")  # a spreadsheet's numbers of rows
    table.columns = table.columns.str.lower()
    if (twice := table.columns[table.columns.duplicated()]).size:
        raise InputError(
            f"{path} has the column {twice[0]!r} twice (capital letters do not count); rename or remove one"
        )
    clip_column = _find_clip_column(path, table)
    kinds = [column for column in table if column not in (clip_column, "youtubeid")]
    table[kinds] = (
        table[kinds].replace("NA", "").replace(r"^(\d+)[.,]0+$", r"\1", regex=True)
    )  # a spreadsheet's 2.0 is 2
    for kind in kinds:
        values = sorted(table[kind].unique())
        if len(values) > MAX_GROUPS:
            raise InputError(
                f"{path}: column {kind!r} has {len(values)} values ({', '.join(values[:3])}, ...); allowed are up to"
                f" {MAX_GROUPS} groups: remove the column, or form groups"
            )
        table[kind] = table[kind].replace(codes.get(kind, {}))
    return table.set_index(clip_column)[kinds]


def _find_clip_column(path: Path, table: pd.DataFrame) -> str:
    """Return the column of clips: the one called clip or file, or the one with names like VIDEO.NNN.mp4."""
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
                " or any in a column called clip"
            )
        return str(column)
    raise InputError(
        f"{path} has the columns {', '.join(table.columns)}, none of clips; needed is one called clip or file, or one with"
        " names like VIDEO.NNN.mp4"
    )
