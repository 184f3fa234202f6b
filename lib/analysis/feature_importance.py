"""Permutation importance of named measures: the loss of accuracy when a measure is swapped with another clip's."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.analysis._inputs import choose_others, swap_columns
from lib.analysis.controls import INTACT, score_experiments
from lib.core.artifacts import FEATURE_IMPORTANCE
from lib.core.clips import write_csv
from lib.data.inputs import split_reference
from lib.model import infer
from lib.scoring.tables import CONTROL_COLUMNS
from lib.streams import base

OUTPUTS = (FEATURE_IMPORTANCE,)

GROUP = "group"
"""The first word of the name of a group of measures; a measure is STREAM.MEASURE."""

Columns = dict[str, dict[str, list[int]]]
"""By name of a measure or group and by reference of an encoder, the columns of the vectors that belong to it."""


def run(context: Context) -> None:
    write_csv(FEATURE_IMPORTANCE, run_importance(context))


def run_importance(context: Context) -> pd.DataFrame:
    """Return the loss of accuracy of each target group when a measure, or a group of measures, is another clip's.

    All numbers of a measure change together: its steps and its statistics. The table is empty without clips, or if the model
    reads no named measure.
    """
    sample, clips = context.sample(context.settings.feature_clips), context.clips
    names = find_named_inputs(context, sample) if len(sample) > 1 else {}
    if not names:
        return concatenate_tables([], CONTROL_COLUMNS)
    columns = find_columns(names)
    samples = [clips[index]._replace(index=place) for place, index in enumerate(sample)]
    predicted: dict[str, dict[str, list[np.ndarray]]] = {}

    def predict(name: str, changed: list) -> None:
        for group, values in infer.predict(context.fabric, context.network, changed, context.batch_size, 0).items():
            predicted.setdefault(name, {}).setdefault(group, []).append(values)

    predict(INTACT, samples)
    for name, swapped in columns.items():
        rng = np.random.default_rng(context.seed)
        arrays = {reference: np.array(indices) for reference, indices in swapped.items()}
        for _ in range(context.settings.control_repeats):
            others = choose_others(len(samples), rng)
            predict(
                name,
                [
                    sample._replace(inputs=swap_columns(sample.inputs, samples[other].inputs, arrays))
                    for sample, other in zip(samples, others, strict=True)
                ],
            )
    return score_experiments(context, sample, predicted)


def find_named_inputs(context: Context, sample: Sequence[int]) -> dict[str, list[str]]:
    """Return the names of the columns of each named stream that the network reads, by reference of an encoder.

    They are those of the first clip of the sample that has all these streams.
    """
    named = {name for name in base.list_names() if base.load(name).groups}
    read = {
        reference: split_reference(reference)
        for settings in context.network.settings_by_encoder.values()
        for reference in settings.reads
    }
    read = {reference: parts for reference, parts in read.items() if parts[0] in named}
    for index in sample if read else ():
        records = context.clips.records(index, {stream for stream, _ in read.values()})
        if not any(record.rejected for record in records.values()):
            return {reference: base.read_names(records[stream])[array] for reference, (stream, array) in read.items()}
    return {}


def find_columns(names: Mapping[str, Sequence[str]]) -> Columns:
    """Return the columns of each measure and of each group, given the names of the columns by reference."""
    columns: Columns = {}
    for reference, listed in names.items():
        stream, _ = split_reference(reference)
        groups = base.load(stream).groups
        for index, name in enumerate(listed):
            measure = name.partition(".")[0]
            for key in (f"{stream}.{measure}", f"{GROUP} {stream} {groups[measure]}"):
                columns.setdefault(key, {}).setdefault(reference, []).append(index)
    return columns
