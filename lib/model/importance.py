"""What predictions rest on: places of the face and moments of the clip, by what becomes of a prediction without them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import h5py
import numpy as np
import torch
from captum.attr import IntegratedGradients
from lightning_fabric import Fabric
from torch import Tensor

from lib.data.batch import Inputs, Sample, collate
from lib.data.dataset import kind_of, stream_of, streams_of
from lib.data.loading import to_device
from lib.model import infer
from lib.model.controls import copied, steps_of
from lib.model.network import Network
from lib.streams import base

GRID = 8
"""Cells a side of the aligned face."""
MOMENTS = 8
"""Equal parts of a clip's time."""
DELETED = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Parts of all cells that the deletion curve is measured at."""
METHODS = ("occlusion", "integrated_gradients")
RANDOM = "random"

_PATH = 8  # steps of the integral
_COPIES = 2  # of a clip at a time, with gradients
_PLACED = ("pictures", "flow")

Means = Mapping[tuple[str, str], np.ndarray]
"""By encoder and reference the mean step of what it reads, over clips and times: (...)."""


class Region(NamedTuple):
    """What is taken away of a stream: a cell (row, column) at all times, or a moment at all places."""

    stream: str
    cell: tuple[int, int] | None = None
    moment: int | None = None

    def places(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """Return where it lies in values (T, ...)."""
        if self.cell is None:
            return (_part(shape[0], MOMENTS, cast(int, self.moment)),)
        sides = (_part(length, GRID, at) for length, at in zip(shape[2:], self.cell, strict=True))
        return (slice(None), slice(None), *sides)


class Importance(NamedTuple):
    """By method and target group how much of a prediction hangs on each region: (R, K), in units of the range, mean over
    clips. mean: of the pictures of each stream of them, uint8 (H, W, 3). missed: by target group how far the integrated
    gradients are from adding up to what is predicted less what is predicted of the mean input (N, K): 0 but for the
    integral's error (Sundararajan et al. 2017, Axiomatic attribution for deep networks, section 3)."""

    regions: list[Region]
    sizes: dict[str, dict[str, np.ndarray]]
    pictures: dict[str, np.ndarray]
    missed: dict[str, np.ndarray]


def measure(fabric: Fabric, network: Network, samples: Sequence[Sample], batch_size: int) -> Importance:
    """Return how much the predictions of the samples rest on each region of each stream; empty where no stream has any.

    occlusion: how far a prediction moves if the region is the mean of all samples there (Zeiler and Fergus 2014).
    integrated_gradients: of the way from the mean input, all streams at once, to the clip's, the part that the region has,
    without its sign.
    """
    regions, means = list(regions_of(network, samples)), means_of(samples)
    if not regions:
        return Importance([], {}, {}, {})
    intact = infer.predict(fabric, network, samples, batch_size, 0)
    moved: dict[str, list[np.ndarray]] = {name: [] for name in intact}
    for region in regions:
        for name, values in _predicted(fabric, network, samples, [region], means, batch_size).items():
            moved[name].append(np.abs(values - intact[name]).mean(0))
    columns = {name: of.shape[1] for name, of in intact.items()}
    gradients, missed = _integrated(network, samples, regions, means, columns)
    pictures = {}
    for (_, reference), mean in means.items():
        if kind_of(reference) == "pictures":
            pictures[stream_of(reference)[0]] = mean.transpose(1, 2, 0)
    by_occlusion = {name: np.stack(of) for name, of in moved.items()}
    return Importance(regions, dict(zip(METHODS, (by_occlusion, gradients), strict=True)), pictures, missed)


def delete(
    fabric: Fabric,
    network: Network,
    samples: Sequence[Sample],
    found: Importance,
    batch_size: int,
    draws: int,
    seed: int,
) -> dict[tuple[str, float], dict[str, list[np.ndarray]]]:
    """Return the predictions (N, K) without the cells that are the most important, by order (a method, or RANDOM, which is
    drawn `draws` times) and which part of all cells is gone (DELETED), of each target group. A method has an order for each
    column, so that other columns' predictions differ (Samek et al. 2017, Evaluating the visualization of what a deep neural
    network has learned)."""
    cells = [index for index, region in enumerate(found.regions) if region.cell is not None]
    means, rng = means_of(samples), np.random.default_rng(seed)
    by_chance = [rng.permutation(cells) for _ in range(draws)]
    predicted: dict[tuple[str, float], dict[str, list[np.ndarray]]] = {}

    def after(order: np.ndarray, share: float) -> dict[str, np.ndarray]:
        gone = [found.regions[index] for index in order[: round(share * len(order))]]
        return _predicted(fabric, network, samples, gone, means, batch_size)

    for share in DELETED if cells else ():
        ends = share in (DELETED[0], DELETED[-1])  # all orders are alike
        every = [after(order, share) for order in by_chance[: 1 if ends else None]]
        predicted[RANDOM, share] = {name: [one[name] for one in every] for name in every[0]}
        for method, sizes in found.sizes.items():
            predicted[method, share] = {name: [np.full_like(of, np.nan)] for name, of in every[0].items()}
            for name, of_group in sizes.items():
                for column, size in enumerate(of_group[cells].T):
                    order = np.array(cells)[np.argsort(-size, kind="stable")]
                    values = every[0] if ends else after(order, share)
                    predicted[method, share][name][0][:, column] = values[name][:, column]
    return predicted


def write(path: Path, found: Importance) -> None:
    """Write pictures/STREAM, sizes/GROUP/METHOD/STREAM/cells (GRID, GRID, K) and moments (MOMENTS, K), and missed/GROUP, as
    of `Importance`."""
    with h5py.File(path, "w", libver="latest", track_order=True) as file:
        arrays = {f"pictures/{stream}": picture for stream, picture in found.pictures.items()}
        arrays |= {f"missed/{group}": values for group, values in found.missed.items()}
        for method, by_group in found.sizes.items():
            for group, sizes in by_group.items():
                for stream in dict.fromkeys(region.stream for region in found.regions):
                    above = f"sizes/{group}/{method}/{stream}"
                    own = [region.stream == stream for region in found.regions]
                    placed = [of and region.cell is not None for of, region in zip(own, found.regions, strict=True)]
                    timed = [of and region.cell is None for of, region in zip(own, found.regions, strict=True)]
                    if any(placed):
                        arrays[f"{above}/cells"] = sizes[placed].reshape(GRID, GRID, -1)
                    if any(timed):
                        arrays[f"{above}/moments"] = sizes[timed]
        for name, values in arrays.items():
            file.create_dataset(name, data=values, track_times=False)


def regions_of(network: Network, samples: Sequence[Sample]) -> Iterator[Region]:
    """Yield the cells of each stream that has places, and the moments of each that has several steps."""
    for stream in streams_of(network.readings):
        if base.load(stream).kind in _PLACED:
            yield from (Region(stream, (row, column)) for row in range(GRID) for column in range(GRID))
        if any(len(steps.times) > 1 for one in samples for _, _, steps in steps_of(one.inputs, stream)):
            yield from (Region(stream, moment=moment) for moment in range(MOMENTS))


def means_of(samples: Sequence[Sample]) -> Means:
    """Return the mean step of all that is read."""
    every: dict[tuple[str, str], list[np.ndarray]] = {}
    for sample in samples:
        for encoder, read in sample.inputs.items():
            for reference, steps in read.items():
                every.setdefault((encoder, reference), []).append(steps.values)
    found = {}
    for key, values in every.items():
        together = np.concatenate(values)
        known = np.isfinite(together)
        mean = np.where(known, together, 0).sum(0, dtype=float) / np.maximum(known.sum(0), 1)
        found[key] = (mean.round() if together.dtype == np.uint8 else mean).astype(together.dtype)
    return found


def without(inputs: Inputs, regions: Sequence[Region], means: Means) -> Inputs:
    """Return what encoders read of a clip with the regions as in the mean."""
    found = copied(inputs)
    for stream in dict.fromkeys(region.stream for region in regions):
        for encoder, reference, own in steps_of(inputs, stream):
            values = own.values.copy()
            mean = _everywhere(means[encoder, reference], values)
            for region in regions:
                placed = region.cell is None or kind_of(reference) in _PLACED
                if region.stream == stream and len(values) and placed:
                    at = region.places(values.shape)
                    values[at] = mean[at]
            found[encoder][reference] = own._replace(values=values)
    return found


def _predicted(
    fabric: Fabric, network: Network, samples: Sequence[Sample], gone: Sequence[Region], means: Means, batch_size: int
) -> dict[str, np.ndarray]:
    changed = [one._replace(inputs=without(one.inputs, gone, means), index=place) for place, one in enumerate(samples)]
    return infer.predict(fabric, network, changed, batch_size, 0)


def _integrated(
    network: Network, samples: Sequence[Sample], regions: Sequence[Region], means: Means, columns: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """`Importance.sizes` and `missed` by integrated gradients; `columns` of each target group."""
    device = next(network.parameters(), torch.zeros(())).device
    sizes: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    missed: dict[str, list[list[float]]] = {name: [] for name in columns}
    for sample in samples:
        mean = {
            encoder: {of: one._replace(values=_everywhere(means[encoder, of], one.values)) for of, one in read.items()}
            for encoder, read in sample.inputs.items()
        }
        batch, start = (
            to_device(collate([sample._replace(inputs=one)]), device).inputs for one in (sample.inputs, mean)
        )
        # points are places in a picture: on the way from one to another nothing is there
        ways = [(encoder, of) for encoder, read in batch.items() for of in read if kind_of(of) != "points"]
        begin, end = (tuple(one[encoder][of].values for encoder, of in ways) for one in (start, batch))

        def predicted(*values: Tensor, group: str, batch: Inputs = batch, ways: Any = ways) -> Tensor:
            inputs = {
                encoder: {
                    of: type(one)(*(part.expand(len(values[0]), *part.shape[1:]) for part in one))
                    for of, one in read.items()
                }
                for encoder, read in batch.items()
            }
            for (encoder, of), one in zip(ways, values, strict=True):
                inputs[encoder][of] = inputs[encoder][of]._replace(values=one)
            unused = sum((0 * one.sum() for one in values), start=torch.zeros(()))  # an encoder may not be shown a clip
            return network(inputs).predicted[group] + unused.to(values[0])

        for group, count in columns.items():
            attribute, found, errors = IntegratedGradients(partial(predicted, group=group)).attribute, [], []
            for column in range(count):
                with torch.backends.cudnn.flags(enabled=False):  # its recurrent layers have gradients in training alone
                    parts, error = attribute(
                        end, begin, column, n_steps=_PATH, internal_batch_size=_COPIES, return_convergence_delta=True
                    )
                found.append([abs(_share(region, ways, parts)) for region in regions])
                errors.append(float(error))
            sizes[group].append(np.array(found).T)
            missed[group].append(errors)
    return {name: np.mean(of, 0) for name, of in sizes.items()}, {name: np.array(of) for name, of in missed.items()}


def _share(region: Region, ways: Sequence[tuple[str, str]], parts: Sequence[Tensor]) -> float:
    of_stream = (part[0] for (_, of), part in zip(ways, parts, strict=True) if stream_of(of)[0] == region.stream)
    return sum(float(part[region.places(part.shape)].sum()) for part in of_stream)


def _everywhere(mean: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.array(np.broadcast_to(mean, values.shape))


def _part(length: int, parts: int, at: int) -> slice:
    """The part number `at` of so many equal ones of a length, of one at least."""
    start = at * length // parts
    return slice(start, max(start + 1, (at + 1) * length // parts))
