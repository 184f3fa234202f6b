"""Compare a clip with the training clips, and collect reasons to doubt its prediction."""

import math
from collections.abc import Iterator, Mapping

from lib.core.shards import Record
from lib.media.video import Span
from lib.model.checkpoint import Served
from lib.serving.windows import NEARLY
from lib.streams import base


def find_warnings(model: Served, records: Mapping[str, Record], span: Span | None) -> Iterator[str]:
    """Yield reasons to doubt the prediction of a clip or a window (`span`), from the records of its streams."""
    for name, record in records.items():
        if not record.refused:
            yield from base.load(name).warnings(record)
            yield from _statistics_out_of_range(model, name, record)
    ends = [float(times[-1]) for one in records.values() if len(times := one.arrays.get("times", ()))]
    if not model.seconds or not ends or span is not None:
        return
    (shortest, longest), seconds = model.seconds, max(ends)
    if not (1 - NEARLY) * shortest - 1 <= seconds <= (1 + NEARLY) * longest + 1:
        yield f"it takes {seconds:.1f} s, the training clips {shortest:.1f} to {longest:.1f} s"


def _statistics_out_of_range(model: Served, stream: str, record: Record) -> Iterator[str]:
    ranges = model.ranges.get(stream, {})
    for name, value in base.load(stream).statistics(record).items():
        low, high = ranges.get(name, (-math.inf, math.inf))
        if not (1 - NEARLY) * low <= value <= (1 + NEARLY) * high:
            yield f"{stream}: {name}: {value:.3g}, in the training clips {low:.3g} to {high:.3g}"
