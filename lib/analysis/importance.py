"""Importance of regions: how predictions change without a cell of the face or a part of the time; and deletion curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables, create_file, write_array
from lib.analysis._gradients import integrated_gradients
from lib.analysis._regions import Means, Region, list_regions, mean_steps, remove_regions
from lib.core.artifacts import DELETION, IMPORTANCE
from lib.core.clips import write_csv
from lib.core.targets import TargetGroup
from lib.data.batch import Sample
from lib.data.inputs import find_kind, split_reference
from lib.model import infer
from lib.model.network import Network

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric

OUTPUTS = IMPORTANCE, DELETION

METHODS = ("occlusion", "integrated_gradients")
RANDOM = "random"

_COLUMNS = "targets", "order", "deleted", "target", "clips", "draws", "accuracy", "lowest", "highest"


class RandomOrders(NamedTuple):
    """Number and seed of the random orders of cells."""

    number: int
    seed: int


class RegionImportance(NamedTuple):
    """Importance of the regions for the predictions.

    sizes: by method and target group the importance (R, K) of each region, in units of the range, mean over clips. pictures:
    the mean image of each stream of images, uint8 (H, W, 3). missed: by target group the convergence error (N, K) of the
    integrated gradients; 0 would be exact.
    """

    regions: list[Region]
    sizes: dict[str, dict[str, np.ndarray]]
    pictures: dict[str, np.ndarray]
    missed: dict[str, np.ndarray]


def run(context: Context) -> None:
    sample = context.sample(context.settings.importance_clips)
    if not sample:
        write(IMPORTANCE, RegionImportance([], {}, {}, {}))
        write_csv(DELETION, concatenate_tables([], _COLUMNS))
        return
    samples = [context.clips[index]._replace(index=place) for place, index in enumerate(sample)]
    settings = context.settings
    regions = list(list_regions(context.network, samples, settings.importance_grid, settings.importance_moments))
    importance = measure_importance(context.fabric, context.network, samples, regions, context.batch_size)
    write(IMPORTANCE, importance)
    write_csv(DELETION, measure_deletion(context, sample, samples, importance))


def measure_importance(
    fabric: "Fabric", network: Network, samples: Sequence[Sample], regions: list[Region], batch_size: int
) -> RegionImportance:
    """Return the importance of each region for the predictions of the samples; empty without any region.

    occlusion: the change of a prediction when the region is replaced by the mean of all samples (Zeiler and Fergus 2014).
    integrated_gradients: the region's part of the path from the mean input to the clip's input, without sign.
    """
    means = mean_steps(samples)
    if not regions:
        return RegionImportance([], {}, {}, {})
    moved = measure_occlusion(fabric, network, samples, regions, batch_size)
    columns = {name: values.shape[2] for name, values in moved.items()}
    gradients, missed = integrated_gradients(network, samples, regions, means, columns)
    pictures = {}
    for (_, reference), mean in means.items():
        if find_kind(reference) == "pictures":
            pictures[split_reference(reference)[0]] = mean.transpose(1, 2, 0)
    occlusion = {
        name: np.stack([change.mean(0) for change in np.moveaxis(values, 1, 0).copy()])
        for name, values in moved.items()
    }
    return RegionImportance(regions, dict(zip(METHODS, (occlusion, gradients), strict=True)), pictures, missed)


def measure_occlusion(
    fabric: "Fabric", network: Network, samples: Sequence[Sample], regions: Sequence[Region], batch_size: int
) -> dict[str, np.ndarray]:
    """Return by target group the change of each prediction (N, R, K) when a region is replaced by the samples' mean."""
    means, intact = mean_steps(samples), infer.predict(fabric, network, samples, batch_size, 0)
    moved: dict[str, list[np.ndarray]] = {name: [] for name in intact}
    for region in regions:
        for name, values in _predict_without(fabric, network, samples, [region], means, batch_size).items():
            moved[name].append(np.abs(values - intact[name]))
    return {name: np.stack(values, axis=1) for name, values in moved.items()}


def measure_deletion(
    context: Context, sample: list[int], samples: Sequence[Sample], importance: RegionImportance
) -> pd.DataFrame:
    """Return the accuracy of each target group without the most important cells, and without random cells."""
    fabric, network, repeats = context.fabric, context.network, context.settings.control_repeats
    fractions = [0.0, *sorted(set(context.settings.deleted)), 1.0]
    orders = RandomOrders(repeats, context.seed)
    predicted = delete(fabric, network, samples, importance, fractions, orders, batch_size=context.batch_size)
    tables = []
    for name, group in context.targets.items():
        draws = {key: [group.from_unit(values) for values in by_group[name]] for key, by_group in predicted.items()}
        table = deletion_table(draws, context.actual(sample, group), group)
        tables.append(table.assign(targets=name))
    return concatenate_tables(tables, _COLUMNS)


def deletion_table(
    predictions: Mapping[tuple[str, float], Sequence[np.ndarray]], actual: np.ndarray, group: TargetGroup
) -> pd.DataFrame:
    """Return the accuracy by order, deleted fraction and target ("mean" and each column): mean, lowest and highest of all
    draws.

    predictions: arrays (N, K) by order and fraction, one for each draw; actual (N, K) is NaN where unknown.
    """
    rows, labelled = [], np.isfinite(actual)
    for (order, deleted), draws in predictions.items():
        errors = np.array(
            [np.where(labelled, np.abs(predicted - actual), 0).sum(0) for predicted in draws]
        )  # (draws, K)
        errors = errors / np.where(labelled.any(0), labelled.sum(0), np.nan)
        accuracy = 1 - np.column_stack([errors.mean(1), errors]) / group.span
        for target, values in zip(["mean", *group.columns], accuracy.T, strict=True):
            rows.append((order, deleted, target, len(actual), len(draws), values.mean(), values.min(), values.max()))
    return pd.DataFrame(rows, columns=[*_COLUMNS[1:]])


def delete(
    fabric: "Fabric",
    network: Network,
    samples: Sequence[Sample],
    importance: RegionImportance,
    fractions: Sequence[float],
    draws: RandomOrders,
    batch_size: int,
) -> dict[tuple[str, float], dict[str, list[np.ndarray]]]:
    """Return predictions (N, K) without the most important cells, by order, removed fraction and target group.

    fractions: of all cells, in rising order, from 0 to 1. An order is a method, with its own order of the cells for each
    column, or RANDOM, which is drawn several times (Samek et
    al. 2017, Evaluating the visualization of what a deep neural network has learned).
    """
    cells = [index for index, region in enumerate(importance.regions) if region.cell is not None]
    means, rng = mean_steps(samples), np.random.default_rng(draws.seed)
    random_orders = [rng.permutation(cells) for _ in range(draws.number)]
    predicted: dict[tuple[str, float], dict[str, list[np.ndarray]]] = {}

    def predict_after(order: np.ndarray, fraction: float) -> dict[str, np.ndarray]:
        removed = [importance.regions[index] for index in order[: round(fraction * len(order))]]
        return _predict_without(fabric, network, samples, removed, means, batch_size)

    for fraction in fractions if cells else ():
        is_end = fraction in (fractions[0], fractions[-1])  # no cell or every cell: the order has no effect
        drawn = [predict_after(order, fraction) for order in random_orders[: 1 if is_end else None]]
        predicted[RANDOM, fraction] = {name: [by_group[name] for by_group in drawn] for name in drawn[0]}
        for method, sizes in importance.sizes.items():
            predicted[method, fraction] = {name: [np.full_like(array, np.nan)] for name, array in drawn[0].items()}
            for name, group_sizes in sizes.items():
                for column, size in enumerate(group_sizes[cells].T):
                    order = np.array(cells)[np.argsort(-size, kind="stable")]
                    values = drawn[0] if is_end else predict_after(order, fraction)
                    predicted[method, fraction][name][0][:, column] = values[name][:, column]
    return predicted


def write(path: Path, importance: RegionImportance) -> None:
    """Write pictures/STREAM, sizes/GROUP/METHOD/STREAM/cells (rows, columns, K) and moments (N, K), and missed/GROUP, as
    in `RegionImportance`."""
    with create_file(path) as file:
        arrays = {f"pictures/{stream}": picture for stream, picture in importance.pictures.items()}
        arrays |= {f"missed/{group}": values for group, values in importance.missed.items()}
        for method, by_group in importance.sizes.items():
            for group, sizes in by_group.items():
                for stream in dict.fromkeys(region.stream for region in importance.regions):
                    parent = f"sizes/{group}/{method}/{stream}"
                    cells, moments = (
                        [region.stream == stream and (region.cell is None) == timed for region in importance.regions]
                        for timed in (False, True)
                    )
                    if any(cells):
                        side = math.isqrt(sum(cells))
                        arrays[f"{parent}/cells"] = sizes[cells].reshape(side, side, -1)
                    if any(moments):
                        arrays[f"{parent}/moments"] = sizes[moments]
        for name, values in arrays.items():
            write_array(file, name, values)


def _predict_without(
    fabric: "Fabric",
    network: Network,
    samples: Sequence[Sample],
    removed: Sequence[Region],
    means: Means,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Return the predictions (N, K) by target group, with the `removed` regions replaced by the mean."""
    changed = [
        sample._replace(inputs=remove_regions(sample.inputs, removed, means), index=place)
        for place, sample in enumerate(samples)
    ]
    return infer.predict(fabric, network, changed, batch_size, 0)
