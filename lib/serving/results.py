"""The results of a prediction."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.batch import Inputs
from lib.media.packets import Span
from lib.model import heads
from lib.model.network import Output
from lib.serving.scores import Estimate as Estimate
from lib.serving.scores import Estimates, Labels, Window, describe_rank, name_columns

if TYPE_CHECKING:  # predictions as CSV need neither of them
    import pandas as pd
    from matplotlib.figure import Figure


COLUMNS = (
    "clip",
    "targets",
    "target",
    "score",
    "low",
    "high",
    "level",
    "percentile",
    "scale",
    "usable fraction",
    "warnings",
    "rejected",
)
"""The columns of a table of predictions."""

PERSON_COLUMNS = (
    "person",
    "persons",
    "person main",
    "person x",
    "person start",
    "person end",
    "person visible",
    "person speaks",
)
"""The columns that follow if all persons of a clip are predicted; `Person` describes them."""


@dataclass(frozen=True)
class Person:
    """One of several persons of a clip.

    number: from 1 on, from the left. count: the number of persons. main: whether this person is tracked by
    default. x: the median place of the face in frame widths, 0 is the left edge. start, end: first and last time in seconds
    at which the face is visible. visible: fraction of the frames with the face. speaks: number of seconds in which the
    person speaks, None for a clip without audio.

    >>> print(Person(1, 2, True, 0.24, 0.0, 14.8, 1.0, 6.4))
    person 1 of 2 (main): at 24 % of the width, visible from 0.0 to 14.8 s (100 %), speaks for 6.4 s
    """

    number: int
    count: int
    main: bool
    x: float
    start: float
    end: float
    visible: float
    speaks: float | None

    def __str__(self) -> str:
        main = " (main)" if self.main else ""
        speaks = "" if self.speaks is None else f", speaks for {self.speaks:.1f} s"
        return (
            f"person {self.number} of {self.count}{main}: at {100 * self.x:.0f} % of the width,"
            f" visible from {self.start:.1f} to {self.end:.1f} s ({100 * self.visible:.0f} %){speaks}"
        )


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction of a clip. A clip that can't be used has no targets; `rejected` is the reason.

    windows: predictions of parts of the clip. A clip that is clearly longer than the training clips always has windows, and
    its targets are their mean, weighted by `usable_fraction`; another clip has windows on request. warnings: reasons to
    doubt the targets. usable_fraction: fraction of time steps that could be used (mean over the streams that the clip has).
    labels: training labels by target group, for figures. person: the predicted person, if all persons of the clip are
    predicted.

    >>> prediction = Prediction(Path("talk.mp4"), {"own": {"warm": Estimate(5.2, 4.0, 6.4, 81.0)}}, "", ("2 cuts",))
    >>> prediction
    Prediction(talk.mp4: warm 5.200; 1 warning)
    >>> print(prediction)
    talk.mp4
      warm  5.200  90 % interval 4.000 to 6.400  higher than 81 % of training clips
      warning: 2 cuts
    >>> prediction.to_frame()[["target", "score", "low", "high", "percentile"]]
      target  score  low  high  percentile
    0   warm    5.2  4.0   6.4        81.0
    >>> prediction.plot().savefig("/dev/null", format="png")
    """

    clip: Path
    targets: Estimates
    rejected: str
    warnings: tuple[str, ...]
    windows: tuple[Window, ...] = ()
    usable_fraction: float = 0.0
    labels: Mapping[str, Labels] = field(default_factory=dict, compare=False)
    person: Person | None = None

    def describe(self, name: str = "") -> str:
        """Return the clip, or another name of it, and the person if all persons are predicted."""
        return f"{name or self.clip}, {self.person}" if self.person else name or str(self.clip)

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{column} {estimate.score:.3f}"
            for estimates in self.targets.values()
            for column, estimate in estimates.items()
        )
        count = len(self.warnings)
        warnings = f"; {count} warning{'s' if count > 1 else ''}" if count else ""
        number = f", person {self.person.number}" if self.person else ""
        return f"Prediction({self.clip}{number}: {scores or f'rejected: {self.rejected}'}{warnings})"

    def __str__(self) -> str:
        return self.to_text().rstrip("\n")

    def to_text(self, over_time: bool = False) -> str:
        """Return what tools.predict prints on a terminal. over_time: include the scores of each window."""
        names = name_columns(self.targets)
        lines = [self.describe()] + [f"  rejected: {self.rejected}"] * bool(self.rejected)
        width = max(map(len, names.values()), default=0)
        for (group, column), name in names.items():
            estimate = self.targets[group][column]
            interval = (
                "" if estimate.low is None else f"  {estimate.interval_name} {estimate.low:.3f} to {estimate.high:.3f}"
            )
            rank = "" if estimate.percentile is None else f"  {describe_rank(estimate.percentile)}"
            lines.append(f"  {name:{width}}  {estimate.score:.3f}{interval}{rank}")
        for window in self.windows if over_time else ():
            scores = [f"{name} {window.targets[group][column].score:.3f}" for (group, column), name in names.items()
                      if window.targets]  # fmt: skip
            lines.append(f"  {window.start:.1f} to {window.end:.1f} s: {', '.join(scores) or window.rejected}")
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)]) + "\n"

    def to_frame(self) -> "pd.DataFrame":
        """Return a row for each target; the function `to_frame` makes one table of several predictions."""
        return to_frame([self])

    def plot(self) -> "Figure":
        """Return a figure of the scores, with their intervals, on the training labels.

        Raises InputError for a rejected clip.
        """
        from lib.serving.figure import draw_groups  # a slow import

        if not self.targets:
            raise InputError(f"{self.clip} is rejected: {self.rejected}; plot a clip with scores")
        return draw_groups(self.targets, self.labels)

    def _repr_html_(self) -> str:
        """Return what notebooks show: the name, warnings, and the figure of `plot`."""
        lines = [f"<strong>{escape(self.describe())}</strong>"]
        lines += [f"<div>rejected: {escape(self.rejected)}</div>"] if self.rejected else []
        lines += [f"<div>warning: {escape(warning)}</div>" for warning in self.warnings]
        if self.targets:
            image = io.StringIO()
            self.plot().savefig(image, format="svg")
            lines.append(image.getvalue()[image.getvalue().index("<svg") :])
        return f"<div>{''.join(lines)}</div>"


def to_frame(predictions: Iterable[Prediction]) -> "pd.DataFrame":
    """Return a row for each clip and target, with the columns COLUMNS. Numbers that are unknown are NaN.

    targets: the target group. A rejected clip has one row, without target and score. If all persons are predicted, each has
    its own rows, and the columns PERSON_COLUMNS follow.

    >>> first = Prediction(Path("a.mp4"), {"own": {"warm": Estimate(5.2, 4.0, 6.4, 81.0)}}, "", (), usable_fraction=1.0)
    >>> rejected = Prediction(Path("b.mp4"), {}, "faces: found in 0% of the frames", ())
    >>> to_frame([first, rejected])[["clip", "rejected", "target", "score", "low"]]
        clip                          rejected target  score  low
    0  a.mp4                                     warm    5.2  4.0
    1  b.mp4  faces: found in 0% of the frames           NaN  NaN
    """
    import pandas as pd  # slow; predictions as text need it not

    rows = [row for prediction in predictions for row in _list_rows(prediction)]
    columns = [*COLUMNS, *(PERSON_COLUMNS if any("person" in row for row in rows) else ())]
    numbers = dict.fromkeys(("score", "low", "high", "level", "percentile", "scale", "usable fraction"), float)
    return pd.DataFrame(rows, columns=columns).astype(numbers)


def _list_rows(prediction: Prediction) -> Iterator[dict[str, Any]]:
    clip = {
        "clip": str(prediction.clip),
        "usable fraction": prediction.usable_fraction,
        "warnings": "; ".join(prediction.warnings),
        "rejected": prediction.rejected,
        **describe_person(prediction.person),
    }
    if not prediction.targets:
        yield clip | {"targets": "", "target": ""}
    for group, estimates in prediction.targets.items():
        for target, estimate in estimates.items():
            yield clip | {"targets": group, "target": target} | vars(estimate)


def describe_person(person: Person | None) -> dict[str, Any]:
    """Return the values of PERSON_COLUMNS, or an empty dictionary without a person.

    >>> describe_person(Person(1, 2, True, 0.24, 0.0, 14.8, 1.0, 6.4))["person x"]
    0.24
    """
    return {} if person is None else dict(zip(PERSON_COLUMNS, vars(person).values(), strict=True))


class Evidence(NamedTuple):
    """The network's input and output for a clip or a window (`span`), as a batch of one, with attention weights.

    person: the predicted person, if all persons of the clip are predicted. speaks: (T,), whether the person speaks in each
    frame."""

    span: Span | None
    records: Mapping[str, Record]
    inputs: Inputs
    output: Output
    targets: Estimates
    person: Person | None = None
    speaks: np.ndarray | None = None


class Values(NamedTuple):
    """The network's output for a clip or window.

    groups: values (K,) of each target group, in units of its range. usable_fractions: of the time steps, by stream.
    """

    groups: dict[str, heads.HeadOutput]
    usable_fractions: dict[str, float]
    warnings: list[str]


Watch = Callable[[Evidence], None]

NETWORK = "network"
"""The name of the last step of a prediction. The other steps have the names of their streams."""

Report = Callable[[str], None]
