"""Linear probes: R² of ridge regression on each encoder's output, on the fused vector, and on pretrained encoders."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.analysis._features import encode
from lib.core.artifacts import MODEL, PROBES
from lib.core.clips import write_csv
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.model import checkpoint
from lib.scoring.baselines import predict_ridge
from lib.scoring.bootstrap import Bootstrap, score_with_intervals
from lib.scoring.evaluation import Evaluation, select_labels

OUTPUTS = (PROBES,)

_COLUMNS = "targets", "features", "width", "target", "r2", "low", "high"


def run(context: Context) -> None:
    write_csv(PROBES, run_probes(context))


def run_probes(context: Context) -> pd.DataFrame:
    """Return R² of a linear probe of each feature vector, for each target group."""
    evaluation = context.evaluation
    vectors = context.features | pretrained_features(evaluation)
    training, scored_clips, tables = evaluation.tables["training"], evaluation.scored_clips, []
    for name, group in context.targets.items():
        labelled = scored_clips[np.isfinite(select_labels(scored_clips, group)).any(1)].reset_index(drop=True)
        table = probe_table(training, labelled, evaluation.tuning_clips, group, vectors, context.bootstrap)
        tables.append(table.assign(targets=name))
    return concatenate_tables(tables, _COLUMNS)


def probe_table(
    training: pd.DataFrame,
    test: pd.DataFrame,
    validation: pd.DataFrame,
    group: TargetGroup,
    features: Mapping[str, pd.DataFrame],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return R² of a linear probe of each of `features`, with the ends of its 95 % interval over videos.

    A linear probe (Alain and Bengio 2017) is a ridge regression, as among the baselines. features: by name a table with a
    row of numbers for each clip; the other tables as in `baselines.predict`. There is a row for the mean and each column; no
    row if ridge has nothing to learn from.
    """
    actual, videos = test[list(group.columns)].to_numpy(float), test["video"].to_numpy()
    tables = [pd.DataFrame(columns=[*_COLUMNS[1:]])]
    for name, vectors in features.items():
        predicted = predict_ridge(training, test, validation, group.columns, vectors)
        if predicted is not None:
            # skill is not used: any array serves as its baseline
            rows = score_with_intervals(
                actual, predicted, predicted, videos, group.columns, span=group.span, bootstrap=bootstrap
            )
            rows = rows[rows["score"] == "r2"].rename(columns={"value": "r2"})
            tables.append(rows.assign(features=name, width=vectors.shape[1])[[*_COLUMNS[1:]]])
    return pd.concat(tables[1:] or tables)


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
