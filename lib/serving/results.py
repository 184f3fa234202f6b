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


@dataclass(frozen=True)
class Estimate:
    """The prediction of one target, in the label's own units.

    low, high: the ends of its interval, which contains the label for nine in ten clips that are like the validation clips
    (lib/scoring/conformal.py); None where too few of these have a label. percentile: the percentage of training clips with a
    lower label; None where no label is known. scale: the predicted standard deviation of the label; None for heads without
    one.
    """

    score: float
    low: float | None
    high: float | None
    percentile: float | None
    scale: float | None = None


Estimates = Mapping[str, Mapping[str, Estimate]]
"""By target group and column."""


@dataclass(frozen=True)
class Window:
    """The prediction of a part of a clip, from `start` to `end` in seconds.

    seen: fraction of the time steps that could be used, for instance with a face; the mean over the model's streams. A
    window that can't be used has no targets, and the reason in `refused`.
    """

    start: float
    end: float
    targets: Estimates
    seen: float
    refused: str


@dataclass(frozen=True)
class Prediction:
    """The prediction of a clip. A clip that can't be used has no targets, and the reason in `refused`.

    windows: the parts of the clip. A clip clearly longer than the training clips always has them, and its targets are their
    mean, weighted by `seen`; another clip has them on request. warnings: reasons to doubt the targets. seen: fraction of the
    time steps that could be used, the mean over those streams that the clip has.
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
    """The network's output: values (K,) of each group in units of its range, the fraction of time steps that could be used
    by stream, and warnings."""

    groups: dict[str, heads.Prediction]
    seen: dict[str, float]
    warnings: list[str]


Watch = Callable[[Evidence], None]

NETWORK = "network"
"""The name of the last step of a prediction; those before it are named as their streams."""

Report = Callable[[str], None]
