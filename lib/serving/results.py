"""The results of a prediction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lib.core.shards import Record
from lib.data.batch import Inputs
from lib.media.packets import Span
from lib.model import heads
from lib.model.network import Output
from lib.scoring.conformal import LEVEL


@dataclass(frozen=True)
class Estimate:
    """The prediction of one target, in the label's own units.

    low, high: ends of the interval, which contains the label of a fraction `level` of clips similar to the validation clips
    (lib/scoring/conformal.py); None if too few validation clips have a label. percentile: percentage of training clips with
    a lower label; None if no training label is known. scale: predicted standard deviation of the label; None for heads that
    do not predict it.
    """

    score: float
    low: float | None
    high: float | None
    percentile: float | None
    scale: float | None = None
    level: float = LEVEL

    @property
    def interval_name(self) -> str:
        """The name of the interval, such as "90 % interval"."""
        return f"{100 * self.level:g} % interval"


Estimates = Mapping[str, Mapping[str, Estimate]]
"""Estimates by target group and column."""


@dataclass(frozen=True)
class Window:
    """The prediction of a part of a clip, from `start` to `end` in seconds.

    seen: fraction of time steps that could be used, for instance with a face (mean over the model's streams). A window that
    can't be used has no targets; `refused` is the reason.
    """

    start: float
    end: float
    targets: Estimates
    seen: float
    refused: str


@dataclass(frozen=True)
class Prediction:
    """The prediction of a clip. A clip that can't be used has no targets; `refused` is the reason.

    windows: predictions of parts of the clip. A clip that is clearly longer than the training clips always has windows, and
    its targets are their mean, weighted by `seen`; another clip has windows on request. warnings: reasons to doubt the
    targets. seen: fraction of time steps that could be used (mean over the streams that the clip has).
    """

    clip: Path
    targets: Estimates
    refused: str
    warnings: tuple[str, ...]
    windows: tuple[Window, ...] = ()
    seen: float = 0.0


class Evidence(NamedTuple):
    """The network's input and output for a clip or a window (`span`), as a batch of one, with attention weights."""

    span: Span | None
    records: Mapping[str, Record]
    inputs: Inputs
    output: Output
    targets: Estimates


class Values(NamedTuple):
    """The network's output for a clip or window.

    groups: values (K,) of each target group, in units of its range. seen: fraction of usable time steps by stream.
    """

    groups: dict[str, heads.Prediction]
    seen: dict[str, float]
    warnings: list[str]


Watch = Callable[[Evidence], None]

NETWORK = "network"
"""The name of the last step of a prediction. The other steps have the names of their streams."""

Report = Callable[[str], None]
