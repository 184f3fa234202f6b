"""Targets: groups of columns of the clip table that are predicted, each with a range, and the names of the Big Five."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lib.core.errors import InputError, prefix_errors
from lib.core.estimates import INTERVAL_LEVEL as INTERVAL_LEVEL
from lib.core.parameters import Section

TRAITS = ("extraversion", "agreeableness", "conscientiousness", "neuroticism", "openness")
"""The Big Five in the order of every table; in FIV2 and the vlogs, `neuroticism` is scored as emotional stability."""

MEAN = "mean"
"""The name of the mean over targets in every table."""

RATERS, RATER_SD = "_n", "_sd"
"""Suffixes of the columns NAME_n and NAME_sd: the number of raters of a clip, and the standard deviation between them."""

RELIABILITY = "reliability"
"""The value of train.label_weighting and evaluate.weighting that weighs labels by their reliability."""

_ON_MEANS = ("mse", "mae", "huber", "ccc", "mse_ccc")
"""Losses that compare the mean with the label, and so fit any head of numbers."""

LOSSES_OF_HEADS: Mapping[str, tuple[str, ...]] = {
    "sigmoid": _ON_MEANS,
    "linear": _ON_MEANS,
    "softmax": ("kl", *_ON_MEANS),
    "binary": ("bce",),
    "gaussian": ("gaussian_nll",),
}
"""The losses of lib/training/losses.py that can train each head of lib/model/heads.py."""

Values = TypeVar("Values", bound=Any)


def list_rating_columns(names: Iterable[str]) -> list[str]:
    """Return the columns NAME_n and NAME_sd among `names` for which NAME is there, too. They are not targets."""
    every = dict.fromkeys(names)
    return [
        name for name in every if any(name.removesuffix(end) in every.keys() - {name} for end in (RATERS, RATER_SD))
    ]


def _check_two_numbers(value: Any) -> Any:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("two numbers, such as [1, 7]")
    return value


Range = Annotated[list[float], BeforeValidator(_check_two_numbers)]
"""The lowest and the highest value of a target."""


class TargetGroup(Section):
    """An entry of the section `targets` of params.yaml: columns of data/clips.csv that one head of the network predicts.

    range: lowest and highest value a column can have, in the table's units. The network and its losses work in units of the
    range, 0 to 1, so that groups of different ranges have the same weight. All files are in the table's units. head: a name
    in lib/model/heads.py. loss: a name in lib/training/losses.py that the head allows. weight: of the group's loss in the
    sum over groups. column_weights: of the columns in the loss; "balanced": the inverse of their means over the training
    clips, scaled to a mean of 1. detect: columns that are also scored as present or absent (lib/scoring/detection.py);
    detect_from: the fraction of the range from which a column counts as present. huber_delta, mse_std: numbers of the losses
    huber and mse_ccc, in units of the range. reliability: by column, the fraction of the labels' variance that raters agree
    on, ICC(1,k), which sets the ceilings of scores (lib/scoring/ceilings.py).
    """

    renamed: ClassVar = {"activation": "head = sigmoid | linear | softmax (lib/model/heads.py lists all)"}

    columns: Annotated[list[str], Field(min_length=1)]
    range: Range
    head: str
    loss: str
    weight: Annotated[float, Field(ge=0, le=1e6)]
    column_weights: Literal["balanced"] | list[Annotated[float, Field(gt=0, le=1e6)]] | None = None
    detect: list[str] = Field(default_factory=list)
    detect_from: Annotated[float, Field(gt=0, le=1)] = 0.5
    huber_delta: Annotated[float, Field(gt=0, le=1)] = 0.1
    mse_std: Annotated[float, Field(gt=0, le=1)] = 0.15
    reliability: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range = {self.range}; allowed: the lower end first")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns = {self.columns}; allowed: each once")
        if MEAN in self.columns:
            raise ValueError(
                f"columns has {MEAN!r}; allowed: any other name, since tables call the mean over targets so"
            )
        if unknown := [name for name in self.detect if name not in self.columns]:
            raise ValueError(f"detect has {unknown[0]!r}; allowed: {', '.join(self.columns)}")
        if unknown := [name for name in self.reliability if name not in self.columns]:
            raise ValueError(f"reliability has {unknown[0]!r}; allowed: {', '.join(self.columns)}")
        if isinstance(self.column_weights, list) and len(self.column_weights) != len(self.columns):
            raise ValueError(f"column_weights = {self.column_weights}; allowed: a number for each of the columns")
        return self

    @property
    def span(self) -> float:
        """Return the width of the range."""
        return self.range[1] - self.range[0]

    def to_unit(self, values: Values) -> Values:
        """Convert values (array or tensor) from the table's units to units of the range, 0 to 1."""
        return (values - self.range[0]) / self.span

    def from_unit(self, values: Values) -> Values:
        """Convert values from units of the range, 0 to 1, to the table's units."""
        return values * self.span + self.range[0]


def _check_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w -]*", name):
        raise ValueError("a name of letters, digits, _, - and spaces, since folders are called so")
    return name


Targets = dict[Annotated[str, AfterValidator(_check_name)], TargetGroup]
"""The section `targets`, or the part of it that a model predicts, by name."""


class TargetSections(Section):
    """The section `targets` of params.yaml, checked without the others."""

    targets: Targets


def check_heads(targets: Targets) -> None:
    """Raise SettingError for the first target group whose head is unknown, or does not fit the group's loss and columns."""
    for name, group in targets.items():
        with prefix_errors(f"targets.{name}."):
            check_head(group)


def check_head(group: TargetGroup) -> None:
    """Raise InputError if a group's head is unknown, or does not fit the group's loss and columns."""
    if group.head not in LOSSES_OF_HEADS:
        raise InputError(f"head = {group.head!r}; allowed: {', '.join(LOSSES_OF_HEADS)}")
    if group.loss not in LOSSES_OF_HEADS[group.head]:
        raise InputError(
            f"loss = {group.loss!r}; allowed with head = {group.head}: {', '.join(LOSSES_OF_HEADS[group.head])}"
        )
    if group.head == "softmax" and (group.range != [0, 1] or len(group.columns) < 2):
        raise InputError(
            f"head = softmax with range {group.range} and {len(group.columns)} columns; allowed: range [0, 1] and two"
            " columns or more"
        )
