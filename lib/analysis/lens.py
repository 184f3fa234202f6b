"""Lens model (Brunswik 1956): correlation of each named measure with the labels, and with the scores of the model."""

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.core.artifacts import DATA, LENS
from lib.core.clips import write_csv
from lib.core.targets import TargetGroup
from lib.data.pooled import read_statistics
from lib.scoring.bootstrap import Bootstrap, score_with_intervals

OUTPUTS = (LENS,)

LABEL, MODEL = "label", "model"
"""The two sides of the lens: a measure's correlation with the label (its validity) and with the model's score (its use)."""

_COLUMNS = "targets", "feature", "kind", "side", "target", "clips", "r", "low", "high"


def run(context: Context) -> None:
    write_csv(LENS, run_lens(context))


def run_lens(context: Context) -> pd.DataFrame:
    """Return the correlations of each named measure of the scored clips; an empty table without a stream of measures."""
    statistics = read_statistics(DATA)
    tables = []
    for name, group in context.targets.items() if statistics else ():
        rows = context.scored_predictions(name)
        actual, predicted = (
            rows.pivot(index="clip", columns="target", values=value)[[*group.columns]]
            for value in ("actual", "predicted")
        )
        videos = rows.drop_duplicates("clip").set_index("clip")["video"].loc[actual.index].to_numpy()
        for stream, (measures, kinds) in statistics.items():
            table = lens_table(measures.reindex(actual.index), actual, predicted, videos, group, context.bootstrap)
            table["kind"] = f"{stream} " + table["feature"].str.partition(".")[0].map(kinds)
            table["feature"] = f"{stream}." + table["feature"]
            tables.append(table.assign(targets=name))
    return concatenate_tables(tables, _COLUMNS)


def lens_table(
    measures: pd.DataFrame,
    actual: pd.DataFrame,
    predicted: pd.DataFrame,
    videos: np.ndarray,
    group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return Pearson's r of each column of `measures` with each label and with each score of the model, with intervals.

    Tables have a row for each clip; NaN marks a missing number or label. Clips without a number or a label are left out.
    Intervals are 95 % over videos.
    """
    tables = [pd.DataFrame(columns=[*_COLUMNS[1:]])]
    labelled = actual.notna().to_numpy()
    for feature, values in measures.items():
        has_both = np.isfinite(values.to_numpy(float))[:, None] & labelled
        if has_both.sum() < 3 or values[has_both.any(1)].nunique() < 2:
            continue
        repeated = np.repeat(values.fillna(0).to_numpy(float)[:, None], len(group.columns), 1)
        for side, others in ((LABEL, actual), (MODEL, predicted)):
            masked = np.where(has_both, others.to_numpy(float), np.nan)
            rows = score_with_intervals(
                masked, repeated, repeated, videos, group.columns, span=group.span, bootstrap=bootstrap
            )
            rows = rows[(rows["score"] == "pearson") & (rows["target"] != "mean")].rename(columns={"value": "r"})
            counts = rows["target"].map(dict(zip(group.columns, has_both.sum(0).tolist(), strict=True)))
            tables.append(rows.assign(feature=feature, side=side, kind="", clips=counts)[[*_COLUMNS[1:]]])
    return pd.concat(tables[1:] or tables, ignore_index=True)
