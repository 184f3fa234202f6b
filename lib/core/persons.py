"""Groups of persons (data/groups.csv): read them, and find the groups that a setting names."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lib.core.errors import SettingError

if TYPE_CHECKING:  # it loads slowly
    import pandas as pd


def read_persons(path: Path) -> "pd.DataFrame":
    """Return data/groups.csv: a row for each clip (index), a text column for each kind of group, '' for an unknown group."""
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False).set_index("clip")


def find_groups(persons: "pd.DataFrame", training: Iterable[str], column: str) -> dict[str, str]:
    """Return the group of each training clip whose group is known, by name of the clip.

    persons: as from `read_persons`. Raises SettingError if train.fairness_group = `column` is not a column, or if the
    training clips have fewer than two groups.
    """
    if column not in persons:
        available = ", ".join(map(str, persons)) or "none is available; add a groups*.csv to data/archives/"
        raise SettingError(f"train.fairness_group = {column!r}; allowed: a column of data/groups.csv: {available}")
    values = persons[column].reindex([*training]).fillna("")
    groups = {str(clip): str(group) for clip, group in values.items() if group}
    if len(names := sorted(set(groups.values()))) < 2:
        raise SettingError(
            f"train.fairness_group = {column!r}, whose groups of the training clips are {names}; allowed: a column with two"
            " groups or more in the training split. Choose another column, or set train.fairness to none"
        )
    return groups
