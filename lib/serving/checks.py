"""Compare a clip with the training clips, and collect reasons to doubt its prediction."""

import math
from collections.abc import Iterator, Mapping

from lib.core.shards import Record
from lib.media.packets import Span
from lib.model.checkpoint import TrainedModel
from lib.serving.windows import NEARLY
from lib.streams import base


def find_warnings(model: TrainedModel, records: Mapping[str, Record], span: Span | None) -> Iterator[str]:
    """Yield reasons to doubt the prediction of a clip, or of a window if `span` is given, from its streams' records."""
    for name, record in records.items():
        if not record.rejected:
            yield from base.load(name).warnings(record)
            yield from _statistics_out_of_range(model, name, record)
    ends = [float(times[-1]) for record in records.values() if len(times := record.arrays.get("times", ()))]
    if not model.training.seconds or not ends or span is not None:
        return
    (shortest, longest), seconds = model.training.seconds, max(ends)
    if not (1 - NEARLY) * shortest - 1 <= seconds <= (1 + NEARLY) * longest + 1:
        yield f"the clip takes {seconds:.1f} s, the training clips {shortest:.1f} to {longest:.1f} s"


def warn_of_short_windows(model: TrainedModel, window: float | None) -> Iterator[str]:
    """Yield a warning if windows are clearly shorter than the training clips, because no interval is calibrated for them."""
    if window and model.training.seconds and window < (1 - NEARLY) * (shortest := model.training.seconds[0]):
        yield (
            f"windows of {window:.1f} s are shorter than the training clips ({shortest:.1f} s or more): their scores"
            " may be biased, and have no intervals"
        )


def _statistics_out_of_range(model: TrainedModel, stream: str, record: Record) -> Iterator[str]:
    ranges = model.training.ranges.get(stream, {})
    for name, value in base.load(stream).statistics(record).items():
        low, high = ranges.get(name, (-math.inf, math.inf))
        if not (1 - NEARLY) * low <= value <= (1 + NEARLY) * high:
            training_range = f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"
            yield f"{stream}: {name}: {value:.3g} (training clips: {training_range})"
