"""Control experiments: predictions after a stream is swapped with another clip's, shuffled in time, or frozen."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.analysis._inputs import choose_others, select_steps, shuffle_steps, swap_stream, zero_stream
from lib.core.artifacts import CONTROLS
from lib.core.clips import write_csv
from lib.data.batch import Sample
from lib.data.dataset import ClipDataset
from lib.data.inputs import list_streams
from lib.model import infer
from lib.model.network import Network
from lib.scoring.tables import CONTROL_COLUMNS, control_table
from lib.streams import base

if TYPE_CHECKING:  # it takes a second to load; checks of parameters and predictions do not need it
    from lightning_fabric import Fabric

OUTPUTS = (CONTROLS,)

INTACT = "intact"
"""The name of the unchanged inputs."""


def run(context: Context) -> None:
    write_csv(CONTROLS, run_controls(context))


def run_controls(context: Context) -> pd.DataFrame:
    """Return the loss of accuracy of each target group in each control experiment; an empty table without clips."""
    sample = context.sample(context.settings.control_clips)
    if not sample:
        return concatenate_tables([], CONTROL_COLUMNS)
    repeats, seed = context.settings.control_repeats, context.seed
    predicted = predict(
        context.fabric, context.network, context.clips, sample, context.batch_size, repeats=repeats, seed=seed
    )
    return score_experiments(context, sample, predicted)


def score_experiments(
    context: Context, sample: list[int], predicted: dict[str, dict[str, list[np.ndarray]]]
) -> pd.DataFrame:
    """Return the loss of accuracy in each experiment for each target group, given the clips and `predict`'s result."""
    tables = list[pd.DataFrame]()
    videos = context.clips.table["video"].iloc[sample].to_numpy()
    for name, group in context.targets.items():
        actual = context.actual(sample, group)
        labelled = np.isfinite(actual).any(1)
        if labelled.any():
            changed = {
                change: [group.from_unit(values[labelled]) for values in by_group[name]]
                for change, by_group in predicted.items()
            }
            table = control_table(changed, INTACT, actual[labelled], videos[labelled], group, context.bootstrap)
            tables.append(table.assign(targets=name))
    return concatenate_tables(tables, CONTROL_COLUMNS)


def predict(
    fabric: "Fabric",
    network: Network,
    clips: ClipDataset,
    chosen: Sequence[int],
    batch_size: int,
    repeats: int,
    seed: int,
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Return the predictions (N, K) of the N `chosen` clips by experiment and target group, in units of its range.

    INTACT: unchanged inputs. "another clip's STREAM": the stream is permuted between the clips (permutation importance:
    Breiman 2001, Random forests, section 10). "STREAM in another order": the steps of this stream alone are shuffled in
    time. "no motion": flow of zero. Random experiments are repeated `repeats` times.
    """
    samples = [clips[index]._replace(index=place) for place, index in enumerate(chosen)]
    predicted: dict[str, dict[str, list[np.ndarray]]] = {}
    for name, changed in _changes(samples, list_streams(network.settings_by_encoder), repeats, seed):
        for group, values in infer.predict(fabric, network, changed, batch_size, 0).items():
            predicted.setdefault(name, {}).setdefault(group, []).append(values)
    return predicted


def _changes(
    samples: list[Sample], streams: Sequence[str], repeats: int, seed: int
) -> Iterator[tuple[str, list[Sample]]]:
    """Yield the name of each experiment and the changed samples, once for each repeat."""
    yield INTACT, samples
    for stream in streams:
        rng = np.random.default_rng(seed)
        for _ in range(repeats if len(samples) > 1 else 0):
            pairs = zip(samples, choose_others(len(samples), rng), strict=True)
            yield (
                f"another clip's {stream}",
                [sample._replace(inputs=swap_stream(sample.inputs, samples[i].inputs, stream)) for sample, i in pairs],
            )
        if base.load(stream).kind == "flow":
            yield "no motion", [sample._replace(inputs=zero_stream(sample.inputs, stream)) for sample in samples]
        if any(len(steps.times) > 1 for sample in samples for _, _, steps in select_steps(sample.inputs, stream)):
            for _ in range(repeats):
                yield (
                    f"{stream} in another order",
                    [sample._replace(inputs=shuffle_steps(sample.inputs, stream, rng)) for sample in samples],
                )
