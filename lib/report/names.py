"""Prepare target names, which can have any characters and any length, for figures and for Markdown."""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup, Targets
from lib.report.figures import FigureInputs

MOST = 10
"""Largest number of targets of a group in a figure. Tables have all targets."""
_LONGEST = 30  # characters of a name in a figure
_NAMES = "target", "kind", "group"
_MARKDOWN = re.compile(r"([\\|*<`\[\]]|(?<!\w)_|_(?!\w)|&(?=[#\w]))")


def prepare_figures(results: FigureInputs) -> FigureInputs:
    """Return the results for figures: the first MOST targets of each group, under names of up to 30 characters."""
    targets = {name: _limit(group) for name, group in results.targets.items()}
    columns = list(dict.fromkeys(column for group in targets.values() for column in group.columns))
    short = dict(zip(columns, _shorten_all(columns), strict=True))
    clips = results.clips.rename(columns=short)
    history = results.history.rename(columns=lambda column: _shorten_target(column, short))
    tables = {name: _select(getattr(results, name), targets, short) for name in results.TABLES}
    targets = {name: _rename(group, short) for name, group in targets.items()}
    importance = results.importance.first(MOST)
    return replace(results, **tables, clips=clips, history=history, targets=targets, importance=importance)


def describe_limit(group: TargetGroup) -> str:
    """Return a sentence for the caption of a figure that shows only the first targets of a group, or an empty string."""
    count = len(group.columns)
    return f" The figure shows the first {MOST} of {count} targets; the tables list all." if count > MOST else ""


def shorten(name: str, length: int = _LONGEST) -> str:
    """Return a name of up to `length` characters."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def escape_markdown(text: str) -> str:
    """Return the text with the special characters of Markdown and HTML escaped."""
    return _MARKDOWN.sub(r"\\\1", text)


def escape_groups(targets: Targets) -> Targets:
    """Return the target groups with target names escaped for Markdown."""
    return {name: _rename(group, _Escaped()) for name, group in targets.items()}


def escape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the names of targets and of groups of persons escaped for Markdown."""
    return table.assign(**{name: table[name].map(escape_markdown) for name in _NAMES if name in table})


class _Escaped(dict[str, str]):
    """Maps any name to its form for Markdown."""

    def __missing__(self, name: str) -> str:
        return escape_markdown(name)


def _limit(group: TargetGroup) -> TargetGroup:
    columns = group.columns[:MOST]
    weights = group.column_weights[:MOST] if isinstance(group.column_weights, list) else group.column_weights
    detect = [column for column in group.detect if column in columns]
    return group.model_copy(update={"columns": columns, "column_weights": weights, "detect": detect})


def _shorten_all(names: list[str]) -> list[str]:
    """Return the names shortened for figures; equal shortened names get different numbers."""
    short: list[str] = []
    for name in names:
        text, number = shorten(name), 1
        while text in short:
            number += 1
            text = f"{shorten(name, _LONGEST - 4)} ({number})"
        short.append(text)
    return short


def _shorten_target(column: str, names: Mapping[str, str]) -> str:
    """Return the name of a column of plots/history.csv, such as validation_r2_GROUP.TARGET, with the target's new name."""
    prefix, point, target = column.partition(".")
    return f"{prefix}{point}{names.get(target, target)}"


def _rename(group: TargetGroup, names: Mapping[str, str]) -> TargetGroup:
    columns, detect = ([names[column] for column in part] for part in (group.columns, group.detect))
    return group.model_copy(update={"columns": columns, "detect": detect})


def _select(table: pd.DataFrame, targets: Targets, names: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of the mean and of the columns of `targets`, under new names."""
    if "target" not in table:
        return table
    chosen = {(name, column) for name, group in targets.items() for column in ("mean", *group.columns)}
    pairs = zip(table["targets"], table["target"], strict=True)
    rows = table[
        np.array([pair in chosen for pair in pairs], dtype=bool)
    ]  # an array, because pandas would take an empty list as columns
    return rows.assign(target=rows["target"].map({**names, "mean": "mean"}))
