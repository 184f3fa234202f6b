"""Several corpora together: which are only scored, and a scale that their labels share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lib.core.errors import InputError, SettingError
from lib.core.parameters import Section
from lib.core.targets import RATER_SD, list_rating_columns
from lib.sources import base

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

ORIGINAL, UNIT = "original", "unit"
"""Values of download.scale."""


def find_ranges(settings: Any) -> dict[str, base.Ranges]:
    """Return for each corpus the ranges of its targets on the scale of `settings`, the section `download`."""
    ranges = {name: base.load(name).columns(getattr(settings, name, Section())) for name in settings.sources}
    if settings.scale == UNIT:
        return {name: dict.fromkeys(of_corpus, (0.0, 1.0)) for name, of_corpus in ranges.items()}
    return ranges


def to_unit(table: "pd.DataFrame", ranges: base.Ranges) -> "pd.DataFrame":
    """Return the clips of a corpus with labels mapped linearly from `ranges` to 0 to 1.

    The standard deviations between raters (NAME_sd) are divided by the width of the range.
    """
    changes: dict[str, pd.Series] = {}
    for name, (low, high) in ranges.items():
        if name in table:
            changes[name] = (table[name] - low) / (high - low)
        if f"{name}{RATER_SD}" in list_rating_columns(table):
            changes[f"{name}{RATER_SD}"] = table[f"{name}{RATER_SD}"] / (high - low)
    return table.assign(**changes)


def check_held_out(settings: Any) -> None:
    """Raise SettingError if download.held_out has an unknown corpus, or leaves none for training."""
    if unknown := [name for name in settings.held_out if name not in settings.sources]:
        raise SettingError(
            f"download.held_out has {unknown[0]!r}; allowed: corpora of download.sources, {', '.join(settings.sources)}"
        )
    if set(settings.sources) <= set(settings.held_out):
        raise SettingError(
            f"download.held_out = {settings.held_out} has every corpus of download.sources; leave one for training"
        )


def check_ranges(parameters: Mapping[str, Any], settings: Any) -> None:
    """Raise SettingError if a target of the user's table has another range in download.table.targets than in `targets`.

    `find_scored` checks a table that is held out. `parameters` is the complete params.yaml.
    """
    if settings.scale == UNIT or "table" not in settings.sources or "table" in settings.held_out:
        return
    for name in parameters["model"]["targets"]:
        group = parameters["targets"].get(name, {})
        for column in group.get("columns", []):
            entered, wanted = settings.table.targets.get(column), group.get("range")
            if entered and isinstance(wanted, list) and [*wanted] != entered:
                raise SettingError(
                    f"targets.{name}.range = {[*wanted]}, but download.table.targets.{column} ="
                    f" [{', '.join(f'{end:g}' for end in entered)}]; allowed: one range; make them equal"
                )


def find_scored(parameters: Mapping[str, Any], settings: Any) -> dict[str, list[str]]:
    """Return for each corpus of evaluate.on the columns that are predicted; `parameters` is the complete params.yaml.

    Raises SettingError for a corpus that is not read, has none of the targets, or has them on another scale.
    """
    ranges, scored = find_ranges(settings), {}
    for corpus in parameters.get("evaluate", {}).get("on", []):
        if corpus not in ranges:
            raise SettingError(
                f"evaluate.on has {corpus!r}; allowed: corpora of download.sources, {', '.join(ranges)}. Add it there"
            )
        groups = {
            name: parameters["targets"][name]
            for name in parameters["model"]["targets"]
            if name in parameters["targets"]
        }
        scored[corpus] = [
            column for group in groups.values() for column in group["columns"] if column in ranges[corpus]
        ]
        if not scored[corpus]:
            raise SettingError(
                f"evaluate.on has {corpus!r}, whose targets are {', '.join(ranges[corpus])}; allowed: corpora with"
                f" targets of model.targets = {list(groups)}. Remove {corpus}"
            )
        for name, group in groups.items():
            for column in group["columns"]:
                low, high = ranges[corpus].get(column, group["range"])
                if (low, high) != tuple(group["range"]):
                    raise SettingError(
                        f"evaluate.on has {corpus!r}, whose {column} ranges from {low:g} to {high:g}; allowed:"
                        f" targets.{name}.range = {list(group['range'])}. Set download.scale to unit, and the range to"
                        " [0, 1]"
                    )
    return scored


def require_labels(table: "pd.DataFrame", scored: Mapping[str, Sequence[str]]) -> None:
    """Raise InputError if a corpus of `scored` (`find_scored`) has no usable clip with a label of its columns."""
    for corpus, columns in scored.items():
        rows = table[(table["corpus"] == corpus) & (table["reason"] == "")]
        if not rows[[*columns]].notna().any(axis=None):
            raise InputError(
                f"evaluate.on has {corpus!r}, but none of its {len(rows)} usable clips has a label of"
                f" {', '.join(columns)}; add labels, or remove {corpus} from evaluate.on"
            )
