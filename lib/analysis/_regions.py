"""Regions of a clip's inputs, cells of the aligned face and parts of the time; and inputs without a region."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from lib.analysis._inputs import copy_inputs, select_steps
from lib.data.batch import Inputs, Sample
from lib.data.inputs import find_kind, list_streams
from lib.model.network import Network
from lib.streams import base

_WITH_CELLS = ("pictures", "flow")

Means = Mapping[tuple[str, str], np.ndarray]
"""The mean step over clips and times, by encoder and reference."""


class Region(NamedTuple):
    """A part of a stream: a cell (row, column) at all times, or a moment of the complete image.

    parts: number of cells along each side of an image, or of moments of a clip.
    """

    stream: str
    cell: tuple[int, int] | None = None
    moment: int | None = None
    parts: int = 8

    def slices(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """Return the region's index in values (T, ...)."""
        if self.cell is None:
            return (_part(shape[0], self.parts, cast(int, self.moment)),)
        sides = (_part(length, self.parts, index) for length, index in zip(shape[2:], self.cell, strict=True))
        return (slice(None), slice(None), *sides)


def list_regions(network: Network, samples: Sequence[Sample], grid: int, moments: int) -> Iterator[Region]:
    """Yield the cells of each stream of images or flow, and the moments of each stream with several steps.

    grid: number of cells along each side. moments: number of equal parts of a clip's time.
    """
    for stream in list_streams(network.settings_by_encoder):
        if base.load(stream).kind in _WITH_CELLS:
            yield from (Region(stream, (row, column), parts=grid) for row in range(grid) for column in range(grid))
        if any(len(steps.times) > 1 for sample in samples for _, _, steps in select_steps(sample.inputs, stream)):
            yield from (Region(stream, moment=moment, parts=moments) for moment in range(moments))


def mean_steps(samples: Sequence[Sample]) -> Means:
    """Return the mean step of every input."""
    arrays: dict[tuple[str, str], list[np.ndarray]] = {}
    for sample in samples:
        for encoder, read in sample.inputs.items():
            for reference, steps in read.items():
                arrays.setdefault((encoder, reference), []).append(steps.values)
    means = {}
    for key, values in arrays.items():
        stacked = np.concatenate(values)
        finite = np.isfinite(stacked)
        mean = np.where(finite, stacked, 0).sum(0, dtype=float) / np.maximum(finite.sum(0), 1)
        means[key] = (mean.round() if stacked.dtype == np.uint8 else mean).astype(stacked.dtype)
    return means


def mean_inputs(inputs: Inputs, means: Means) -> Inputs:
    """Return a clip's inputs with every step replaced by the mean step."""
    return {
        encoder: {
            reference: steps._replace(values=_repeated(means[encoder, reference], steps.values))
            for reference, steps in read.items()
        }
        for encoder, read in inputs.items()
    }


def remove_regions(inputs: Inputs, regions: Sequence[Region], means: Means) -> Inputs:
    """Return a clip's inputs with the regions replaced by those of the mean step."""
    changed = copy_inputs(inputs)
    for stream in dict.fromkeys(region.stream for region in regions):
        for encoder, reference, steps in select_steps(inputs, stream):
            values = steps.values.copy()
            mean = _repeated(means[encoder, reference], values)
            for region in regions:
                applies = region.cell is None or find_kind(reference) in _WITH_CELLS
                if region.stream == stream and len(values) and applies:
                    index = region.slices(values.shape)
                    values[index] = mean[index]
            changed[encoder][reference] = steps._replace(values=values)
    return changed


def _repeated(mean: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean step repeated for every step of `values`."""
    return np.array(np.broadcast_to(mean, values.shape))


def _part(length: int, parts: int, index: int) -> slice:
    """Return part `index` of `parts` equal parts of a length; it has at least one element."""
    start = index * length // parts
    return slice(start, max(start + 1, (index + 1) * length // parts))
