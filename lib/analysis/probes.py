"""Linear probes: R² of ridge regression on each encoder's output, on the fused vector, and on pretrained encoders."""

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.analysis._features import encode
from lib.core.artifacts import MODEL, PROBES
from lib.core.clips import write_csv
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.model import checkpoint
from lib.scoring.evaluation import Evaluation, actual_values
from lib.scoring.tables import PROBE_COLUMNS, probe_table

OUTPUTS = (PROBES,)


class Settings(Section):
    """This analysis has no settings."""


def run(context: Context) -> None:
    write_csv(PROBES, probe(context))


def probe(context: Context) -> pd.DataFrame:
    """Return R² of a linear probe of each feature vector, for each target group."""
    evaluation = context.evaluation
    vectors = context.features | pretrained_features(evaluation)
    training, test, tables = evaluation.tables["training"], evaluation.test, []
    for name, group in context.targets.items():
        known = np.isfinite(actual_values(test, group)).any(1)
        labelled = test[known].reset_index(drop=True)
        splits = training, labelled, evaluation.validation
        table = probe_table(*splits, group, vectors, context.bootstrap)
        tables.append(table.assign(targets=name))
    return concatenate_tables(tables, PROBE_COLUMNS)


def pretrained_features(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """Return the outputs of the encoders before training, for those that started from given weights.

    A probe of them is a baseline: it shows what training added to the pretrained encoder. Without the weights' files there
    are none, and a message says so.
    """
    try:
        encoders = checkpoint.pretrained(MODEL)
    except InputError as error:
        print(f"the pretrained encoders are not probed: {error}")
        return {}
    return {
        f"{name}, as loaded": pd.concat(
            [encode(encoder, name, clips, evaluation.batch_size, best_device()) for clips in evaluation.clips.values()]
        )
        for name, encoder in encoders.items()
    }
