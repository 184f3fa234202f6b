"""Permutation importance of named measures: the loss of accuracy when a measure is swapped with another clip's."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from lib.analysis._context import ClipCount, Context, concatenate_tables
from lib.analysis._inputs import choose_others, swap_columns
from lib.analysis.controls import INTACT, score_experiments
from lib.core.artifacts import FEATURE_IMPORTANCE
from lib.core.clips import write_csv
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.data.inputs import EncoderInputs, split_reference
from lib.model import infer
from lib.scoring.tables import CONTROL_COLUMNS
from lib.streams import base

OUTPUTS = (FEATURE_IMPORTANCE,)

GROUP = "group"
"""The first word of the name of a group of measures; a measure is STREAM.MEASURE."""

Columns = dict[str, dict[str, list[int]]]
"""By name of a measure or group and by reference of an encoder, the columns of the vectors that belong to it."""


class Settings(Section):
    feature_clips: ClipCount
    control_repeats: Annotated[int, Field(ge=1, le=1000)]


def run(context: Context) -> None:
    write_csv(FEATURE_IMPORTANCE, run_importance(context))


def run_importance(context: Context) -> pd.DataFrame:
    """Return the loss of accuracy of each target group when a measure, or a group of measures, is another clip's.

    All numbers of a measure change together: its steps and its statistics. The table is empty without clips, or if the model
    reads no named measure.
    """
    sample, clips = context.sample(context.settings.feature_clips), context.clips
    named = {name for name in base.names() if base.load(name).groups}
    references = [
        reference for settings in context.network.encoder_inputs.values() for reference in settings.reads
        if split_reference(reference)[0] in named
    ]  # fmt: skip
    if len(sample) < 2 or not references:
        return concatenate_tables([], CONTROL_COLUMNS)
    streams = {split_reference(reference)[0] for reference in references}
    columns: Columns = {}
    for index in sample:  # the first clip that has the stream
        records = clips.records(index, streams)
        if not any(record.refused for record in records.values()):
            columns = find_columns(context.network.encoder_inputs, records)
            break
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


def find_columns(encoder_inputs: Mapping[str, EncoderInputs], records: Mapping[str, Record]) -> Columns:
    """Return the columns of each measure and of each group, given a clip's records of the streams that have measures."""
    columns: Columns = {}
    for settings in encoder_inputs.values():
        for reference in settings.reads:
            stream, array = split_reference(reference)
            if stream not in records:
                continue
            groups = base.load(stream).groups
            for index, name in enumerate(base.read_names(records[stream])[array]):
                measure = name.partition(".")[0]
                for key in (f"{stream}.{measure}", f"{GROUP} {stream} {groups[measure]}"):
                    indices = columns.setdefault(key, {}).setdefault(reference, [])
                    if index not in indices:  # two encoders may read the same reference
                        indices.append(index)
    return columns
