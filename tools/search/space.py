"""The values that a search tries: lists and ranges of parameters, and the trials of a grid."""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from itertools import product
from typing import Any, NamedTuple

from lib.core.errors import InputError
from tools.experiments import ParameterChanges, changed, value_of
from tools.parameters import check, parse_change, plain

RESERVED = "download", "evaluate", "analyse", "figures", "parallel"
"""Sections that a search can't change: scores of other clips or of another kind can't be compared."""
_RANGE = re.compile(r"([^.\s,:]+(?:\.\d+)?(?:e[+-]?\d+)?)\.\.([^:\s,]+)(:log)?")


class Choices(NamedTuple):
    """Values of a parameter, in the order of the command."""

    values: list[Any]


class Range(NamedTuple):
    """A range of a parameter: whole numbers if both ends are. log: whether values are drawn on a logarithmic scale."""

    low: float
    high: float
    log: bool


Space = dict[str, Choices | Range]
"""The values of each parameter, by its key in params.yaml."""


def parse_space(texts: Iterable[str], shared: dict[str, Any], has_ranges: bool) -> Space:
    """Return the values of KEY=VALUE,VALUE and KEY=LOW..HIGH[:log], by key.

    has_ranges: whether ranges are allowed. shared: the parameters of params.yaml. Raises InputError for anything else.
    """
    space: Space = {}
    for text in texts:
        key, equals, written = text.partition("=")
        if not equals or not written or key in space:
            raise InputError(
                f"{text!r}; allowed: KEY=VALUE,VALUE or KEY=LOW..HIGH, each key once, such as"
                " model.fusion=concat,late_average"
            )
        if (section := key.partition(".")[0]) in RESERVED:
            raise InputError(
                f"{text!r}; allowed: keys outside {', '.join(RESERVED)}, because the scores of all trials must be of"
                f" the same clips; change {section} in params.yaml"
            )
        changed(shared, {key: None})  # raises InputError for an unknown section
        present = value_of(shared, key)
        if present and isinstance(present[0], dict):
            raise InputError(
                f"{text!r}: {key} is a section; allowed: its keys, such as {key}.{next(iter(present[0]), 'KEY')}"
            )
        space[key] = _parse_range(text, written, has_ranges) if ".." in written else _parse_choices(text, key, written)
    return space


def check_values(space: Space, shared: dict[str, Any]) -> None:
    """Raise InputError if a stage would reject a value, or an end of a range, with the other parameters `shared`."""
    for key, values in space.items():
        for value in values.values if isinstance(values, Choices) else values[:2]:
            check(changed(shared, {key: value}))


def _parse_range(text: str, written: str, has_ranges: bool) -> Range:
    match = _RANGE.fullmatch(written)
    ends = [parse_change(f"end={end}")[1] for end in match.groups()[:2]] if match else []
    if match is None or not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise InputError(f"{text!r}; allowed: KEY=LOW..HIGH or KEY=LOW..HIGH:log, with numbers, such as 1e-5..1e-3:log")
    low, high = map(plain, ends)
    if not has_ranges:
        raise InputError(f"{text!r} is a range; give single values, such as KEY={low},{high}, or --optuna TRIALS")
    log = match[3] is not None
    if not low < high or (log and low <= 0):
        raise InputError(
            f"{text!r}; allowed: a lower end below the upper end" + (", and above 0 for log" if log else "")
        )
    return Range(low, high, log)


def _parse_choices(text: str, key: str, written: str) -> Choices:
    values = plain(parse_change(f"{key}=[{written}]")[1])
    if mapped := [value for value in values if isinstance(value, dict)]:
        raise InputError(f"{text!r}: {mapped[0]} is a mapping; give each of its keys separately")
    if len({json.dumps(value) for value in values}) < len(values):
        raise InputError(f"{text!r}; allowed: each value once")
    return Choices(values)


def make_grid(space: Space, shared: dict[str, Any]) -> list[ParameterChanges]:
    """Return the changes of each combination of values. Raises InputError if a stage would reject one."""
    combinations = product(*(choices.values for choices in space.values() if isinstance(choices, Choices)))
    trials = [dict(zip(space, values, strict=True)) for values in combinations]
    for changes in trials:
        check(changed(shared, changes))
    return trials


def name_trial(name: str, changes: ParameterChanges) -> str:
    """Return the name of a trial, which depends on its changes, so that the same changes are run once."""
    return f"{name}-{hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:8]}"


def format_changes(changes: ParameterChanges) -> str:
    """Return changes as KEY=VALUE KEY=VALUE."""
    return " ".join(f"{key}={format_cell(value)}" for key, value in changes.items())


def format_cell(value: Any) -> str:
    """Return a value as text, numbers with at most four digits."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return json.dumps(value) if not isinstance(value, str) else value
