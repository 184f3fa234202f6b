"""Groups of persons (gender, ethnicity, age) from annotation files, where the user has them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from lib.core.errors import InputError
from lib.sources import spreadsheet

MAX_GROUPS = 20
"""A column with more values is taken for a mistake."""

Codes = Mapping[str, Mapping[str, str]]
"""What the codes in each column of a file mean."""

_OWN = "groups*.csv"
_CLIP = r".+\.\d{3}\.mp4"


def read(files: Iterable[Path], clips: Iterable[str], patterns: Mapping[str, Codes]) -> pd.DataFrame:
    """Return `clip` and a column for each kind of group, text, empty where a clip has none; a row for each of `clips`.

    Of `files` these count: groups*.csv (a column of clips, any others are groups), and those of the `patterns` that the
    sources name; commas, semicolons or tabs between values. Without any, there is the column `clip` alone. Raises InputError
    on a file without a column of clips, on a column of over MAX_GROUPS values, and where two files disagree about a clip.
    """
    table = pd.DataFrame({"clip": sorted(clips)})
    found: dict[str, pd.Series] = {}
    known_files: dict[str, Codes] = {_OWN: {}, **patterns}
    wanted = {path: codes for path in files for pattern, codes in known_files.items() if path.match(pattern)}
    for path, codes in sorted(wanted.items()):
        for kind, values in _read(path, codes).items():
            known = found.get(str(kind), pd.Series(dtype=object))
            both = known.index.intersection(values.index)
            if (differ := known[both] != values[both]).any():
                clip = differ.index[differ][0]
                raise InputError(f"{path}: {kind} of {clip} is {values[clip]!r}; another file says {known[clip]!r}")
            found[str(kind)] = pd.concat([known, values[values.index.difference(both)]])
    return table.assign(**{kind: table["clip"].map(values).fillna("") for kind, values in found.items()})


def _read(path: Path, codes: Codes) -> pd.DataFrame:
    """Return a file's groups by clip."""
    table = pd.DataFrame.from_dict(spreadsheet.read(path, str(path)).rows, orient="index")
    table = table.drop(columns="", errors="ignore")  # a spreadsheet's numbers of rows, or what follows a last comma
    table.columns = table.columns.str.lower()
    if (twice := table.columns[table.columns.duplicated()]).size:
        raise InputError(
            f"{path} has the column {twice[0]!r} twice (capital letters do not count); rename or remove one"
        )
    alike = {column: table[column].str.fullmatch(_CLIP) for column in table}
    of_clips = ["clip"] if "clip" in table else [column for column in table if 2 * alike[column].sum() > len(table)]
    if of_clips and of_clips[0] != "clip" and not alike[of_clips[0]].all():
        row = table.index[~alike[of_clips[0]]][0]
        raise InputError(
            f"{path}, row {row}, column {of_clips[0]!r}: {table[of_clips[0]][row]!r}; allowed: names like VIDEO.NNN.mp4,"
            " or any in a column called clip"
        )
    if not of_clips:
        raise InputError(
            f"{path} has the columns {', '.join(table.columns)}, none of clips; needed is one"
            " called clip, or of names like VIDEO.NNN.mp4"
        )
    kinds = [column for column in table if column not in (of_clips[0], "youtubeid")]
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
    twice = table[of_clips[0]].duplicated()
    if twice.any():
        raise InputError(f"{path} has clip {table[of_clips[0]][twice].iloc[0]} twice")
    return table.set_index(of_clips[0])[kinds]
