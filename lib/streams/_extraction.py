"""Run a stream's extractor on clips: one by one or in batches, with errors that concern one clip only."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Any

from lib.core.errors import InputError, describe_internal_error
from lib.core.records import Raw, Record
from lib.streams.base import TRACEBACK


class BatchExtractor:
    """An extractor that can compute several clips together. clips: the number of clips in a batch, 1, 2, or at least 4."""

    clips: int

    def extract_clips(self, inputs: list[tuple[Any, ...]]) -> list[Record]:
        """Return the records of clips, given the inputs of each."""
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Record:
        """Return the record of one clip."""
        return self.extract_clips([inputs])[0]


def extract_all(make: Callable[..., Record], clips: Iterable[tuple[Any, ...]]) -> Iterator[Record]:
    """Yield a stream's record of each clip, given the inputs of each, as `extract_clip` does. A BatchExtractor gets batches.

    Its first batches have one clip and up to four, so that `measure_cost` need not wait for a larger one.
    """
    most, remaining = (make.clips if isinstance(make, BatchExtractor) else 1), iter(clips)
    sizes = chain((1, min(4, most)), repeat(most))
    while batch := list(islice(remaining, next(sizes))):
        yield from _extract_batch(make, batch) if len(batch) > 1 else [extract_clip(make, batch[0])]


def _extract_batch(make: Any, batch: list[tuple[Any, ...]]) -> list[Record]:
    usable = [inputs for inputs in batch if not any(isinstance(part, Record) and part.rejected for part in inputs)]
    try:
        computed = {record.clip: record for record in (make.extract_clips(usable) if usable else [])}
    except InputError:
        raise
    except Exception:  # find out which clip fails
        computed = {}
    return [computed.get(inputs[0].clip) or extract_clip(make, inputs) for inputs in batch]


def extract_clip(make: Callable[..., Record], inputs: Iterable[Raw | Record]) -> Record:
    """Return a stream's record of a clip, given the clip's inputs. If an input is rejected, return that input.

    If the extractor fails, the record is rejected and has the attribute TRACEBACK. An InputError is raised further, because
    it concerns more than one clip.
    """
    inputs = list(inputs)
    rejected = next((record for record in inputs if isinstance(record, Record) and record.rejected), None)
    try:
        return rejected or make(*inputs)
    except InputError:
        raise
    except Exception as error:
        reason, trace = describe_internal_error(error)
        return Record(inputs[0].clip, attributes={TRACEBACK: trace}, rejected=reason)
