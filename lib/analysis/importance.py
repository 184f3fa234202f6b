"""Importance of regions: the change of a prediction when a cell of the face or a part of the time is averaged out; and the
accuracy without the regions that are called the most important."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from pydantic import Field

from lib.analysis._context import ClipCount, Context, concatenate_tables, create_file, write_array
from lib.analysis._gradients import integrated_gradients
from lib.analysis._regions import GRID, Means, Region, list_regions, mean_steps, remove_regions
from lib.core.artifacts import DELETION, IMPORTANCE
from lib.core.clips import write_csv
from lib.core.parameters import Section
from lib.data.batch import Sample
from lib.data.dataset import find_kind, split_reference
from lib.model import infer
from lib.model.network import Network
from lib.scoring.tables import DELETION_COLUMNS, deletion_table

OUTPUTS = IMPORTANCE, DELETION

DELETED = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""The fractions of all cells at which the deletion curve is measured."""
METHODS = ("occlusion", "integrated_gradients")
RANDOM = "random"


class Settings(Section):
    importance_clips: ClipCount
    control_repeats: Annotated[int, Field(ge=1, le=1000)]


class Importance(NamedTuple):
    """Importance of each region by method and target group: (R, K), in units of the range, mean over clips.

    pictures: the mean image of each stream of images, uint8 (H, W, 3). missed: by target group the convergence error of the
    integrated gradients (N, K); 0 but for the integral's error.
    """

    regions: list[Region]
    sizes: dict[str, dict[str, np.ndarray]]
    pictures: dict[str, np.ndarray]
    missed: dict[str, np.ndarray]


def run(context: Context) -> None:
    sample = context.sample(context.settings.importance_clips)
    if not sample:
        write(IMPORTANCE, Importance([], {}, {}, {}))
        write_csv(DELETION, concatenate_tables([], DELETION_COLUMNS))
        return
    samples = [context.clips[index]._replace(index=place) for place, index in enumerate(sample)]
    found = measure_importance(context.fabric, context.network, samples, context.batch_size)
    write(IMPORTANCE, found)
    write_csv(DELETION, measure_deletion(context, sample, samples, found))


def measure_deletion(
    context: Context, sample: list[int], samples: Sequence[Sample], importance: Importance
) -> pd.DataFrame:
    """Return the accuracy of each target group without the most important cells, and without random ones."""
    fabric, network, repeats = context.fabric, context.network, context.settings.control_repeats
    predicted = delete(fabric, network, samples, importance, context.batch_size, repeats, context.seed)
    tables = []
    for name, group in context.targets.items():
        by_order = {order: [group.from_unit(values) for values in of[name]] for order, of in predicted.items()}
        table = deletion_table(by_order, context.actual(sample, group), group)
        tables.append(table.assign(targets=name))
    return concatenate_tables(tables, DELETION_COLUMNS)


def measure_importance(fabric: Fabric, network: Network, samples: Sequence[Sample], batch_size: int) -> Importance:
    """Return the importance of each region of each stream for the predictions of the samples; empty without any region.

    occlusion: how far a prediction moves if the region is replaced by that of the mean of all samples (Zeiler and Fergus
    2014). integrated_gradients: the region's part of the path from the mean input to the clip's, without sign.
    """
    regions, means = list(list_regions(network, samples)), mean_steps(samples)
    if not regions:
        return Importance([], {}, {}, {})
    intact = infer.predict(fabric, network, samples, batch_size, 0)
    moved: dict[str, list[np.ndarray]] = {name: [] for name in intact}
    for region in regions:
        for name, values in _predict_without(fabric, network, samples, [region], means, batch_size).items():
            moved[name].append(np.abs(values - intact[name]).mean(0))
    columns = {name: values.shape[1] for name, values in intact.items()}
    gradients, missed = integrated_gradients(network, samples, regions, means, columns)
    pictures = {}
    for (_, reference), mean in means.items():
        if find_kind(reference) == "pictures":
            pictures[split_reference(reference)[0]] = mean.transpose(1, 2, 0)
    by_occlusion = {name: np.stack(values) for name, values in moved.items()}
    return Importance(regions, dict(zip(METHODS, (by_occlusion, gradients), strict=True)), pictures, missed)


def delete(
    fabric: Fabric,
    network: Network,
    samples: Sequence[Sample],
    importance: Importance,
    batch_size: int,
    draws: int,
    seed: int,
) -> dict[tuple[str, float], dict[str, list[np.ndarray]]]:
    """Return the predictions (N, K) without the most important cells, by order, fraction of cells removed (DELETED) and
    target group (Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned).

    An order is a method, or RANDOM, which is drawn `draws` times. A method has its own order for each column.
    """
    cells = [index for index, region in enumerate(importance.regions) if region.cell is not None]
    means, rng = mean_steps(samples), np.random.default_rng(seed)
    random_orders = [rng.permutation(cells) for _ in range(draws)]
    predicted: dict[tuple[str, float], dict[str, list[np.ndarray]]] = {}

    def predict_after(order: np.ndarray, fraction: float) -> dict[str, np.ndarray]:
        removed = [importance.regions[index] for index in order[: round(fraction * len(order))]]
        return _predict_without(fabric, network, samples, removed, means, batch_size)

    for fraction in DELETED if cells else ():
        at_end = fraction in (DELETED[0], DELETED[-1])  # all orders are alike
        every = [predict_after(order, fraction) for order in random_orders[: 1 if at_end else None]]
        predicted[RANDOM, fraction] = {name: [one[name] for one in every] for name in every[0]}
        for method, sizes in importance.sizes.items():
            predicted[method, fraction] = {name: [np.full_like(of, np.nan)] for name, of in every[0].items()}
            for name, of_group in sizes.items():
                for column, size in enumerate(of_group[cells].T):
                    order = np.array(cells)[np.argsort(-size, kind="stable")]
                    values = every[0] if at_end else predict_after(order, fraction)
                    predicted[method, fraction][name][0][:, column] = values[name][:, column]
    return predicted


def write(path: Path, importance: Importance) -> None:
    """Write pictures/STREAM, sizes/GROUP/METHOD/STREAM/cells (GRID, GRID, K) and moments (MOMENTS, K), and missed/GROUP, as
    in `Importance`."""
    with create_file(path) as file:
        arrays = {f"pictures/{stream}": picture for stream, picture in importance.pictures.items()}
        arrays |= {f"missed/{group}": values for group, values in importance.missed.items()}
        for method, by_group in importance.sizes.items():
            for group, sizes in by_group.items():
                for stream in dict.fromkeys(region.stream for region in importance.regions):
                    above = f"sizes/{group}/{method}/{stream}"
                    cells, moments = (
                        [region.stream == stream and (region.cell is None) == timed for region in importance.regions]
                        for timed in (False, True)
                    )
                    if any(cells):
                        arrays[f"{above}/cells"] = sizes[cells].reshape(GRID, GRID, -1)
                    if any(moments):
                        arrays[f"{above}/moments"] = sizes[moments]
        for name, values in arrays.items():
            write_array(file, name, values)


def _predict_without(
    fabric: Fabric,
    network: Network,
    samples: Sequence[Sample],
    removed: Sequence[Region],
    means: Means,
    batch_size: int,
) -> dict[str, np.ndarray]:
    changed = [
        sample._replace(inputs=remove_regions(sample.inputs, removed, means), index=place)
        for place, sample in enumerate(samples)
    ]
    return infer.predict(fabric, network, changed, batch_size, 0)
