"""Partial dependence of predictions on named measures: of the model, of ridge, and of boosted trees."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.analysis._context import Context, concatenate_tables
from lib.analysis._dependence import QUANTILES, Feature, find_features, is_read, set_measures
from lib.analysis.feature_importance import GROUP, find_named_inputs
from lib.core.artifacts import DATA, PARTIAL_DEPENDENCE
from lib.core.clips import write_csv
from lib.core.targets import TargetGroup
from lib.data.pooled import pool_vectors, read_statistics
from lib.model import infer
from lib.regression.trees import fit_target
from lib.scoring import baselines
from lib.scoring.bootstrap import Bootstrap, estimate_intervals, sum_by_video
from lib.scoring.scores import prepend_mean
from lib.scoring.stacked_baselines import TREES, select_tree_inputs

OUTPUTS = (PARTIAL_DEPENDENCE,)

MODEL = "model"

_COLUMNS = (
    "targets", "model", "feature", "kind", "towards", "target", "quantile", "at", "clips", "value", "low", "high",
)  # fmt: skip

Predict = Callable[[Feature], Mapping[str, np.ndarray] | None]
"""A function from a feature to predictions (Q, N, K) by target group, for each value of the feature; None if the model does
not read it."""


def run(context: Context) -> None:
    write_csv(PARTIAL_DEPENDENCE, run_dependence(context))


def run_dependence(context: Context) -> pd.DataFrame:
    """Return the partial dependence (Friedman 2001) of the model's, ridge's and the trees' predictions on named measures.

    A row for each target group, model, feature, target and quantile of the feature. value: the mean over the clips of the
    change in a clip's prediction when the feature is `at` for every clip, relative to the mean over all quantiles, in the
    targets' units, with a 95 % interval over videos. The table is empty without clips or without a stream of named measures.
    """
    statistics, sample = read_statistics(DATA), context.sample(context.settings.dependence_clips)
    table = context.clips.table
    sample = [i for i in sample if all(table["clip"].iloc[i] in measured.index for measured, _ in statistics.values())]
    if len(sample) < 2 or not statistics:
        return concatenate_tables([], _COLUMNS)
    clips = table.iloc[sample]
    vectors = baselines.select_known(pool_vectors(DATA), context.evaluation.tables["training"])
    models = {MODEL: _predict_network(context, sample), TREES: _predict_trees(context, vectors, clips["clip"])}
    models |= {f"ridge_{stream}": _predict_ridge(context, vectors, stream, clips["clip"]) for stream in statistics}
    features, tables = find_features(statistics, clips["clip"].tolist(), GROUP), list[pd.DataFrame]()
    for feature in tqdm(features, desc="partial dependence", unit="feature", disable=None):
        for model, predict in models.items():
            for targets, predicted in (predict(feature) or {}).items():
                group, videos = context.targets[targets], clips["video"].to_numpy()
                rows = tabulate_dependence(predicted, feature, videos, group, context.bootstrap)
                tables.append(rows.assign(targets=targets, model=model))
    return concatenate_tables(tables, _COLUMNS)


def tabulate_dependence(
    predicted: np.ndarray, feature: Feature, videos: np.ndarray, group: TargetGroup, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Return the rows of `run_dependence` for predictions (Q, N, K) at the values of one feature.

    Targets without a prediction (NaN) have no rows.
    """
    changes = (predicted - predicted.mean(0)).transpose(1, 2, 0)
    terms = np.concatenate([np.ones_like(changes[..., :1]), changes], -1)  # the first counts the clips

    def average(sums: np.ndarray) -> dict[str, np.ndarray]:
        means = sums[..., 1:] / sums[..., :1]
        return prepend_mean({str(index): means[..., index] for index in range(len(QUANTILES))})

    rows = estimate_intervals(sum_by_video(terms, videos), average, group.columns, bootstrap)
    rows = rows[(rows["target"] != "mean") & rows["value"].notna()]
    place = rows.pop("score").astype(int).to_numpy()
    keys = {"feature": feature.name, "kind": feature.kind, "towards": feature.towards, "clips": len(videos)}
    return rows.assign(**keys, quantile=np.array(QUANTILES)[place], at=feature.at[place])


def _predict_network(context: Context, sample: list[int]) -> Predict:
    names = find_named_inputs(context, sample)
    samples = [context.clips[index]._replace(index=place) for place, index in enumerate(sample)] if names else []

    def predict(feature: Feature) -> dict[str, np.ndarray] | None:
        if not is_read(feature, names):
            return None
        steps = [
            infer.predict(
                context.fabric,
                context.network,
                [item._replace(inputs=set_measures(item.inputs, names, values)) for item in samples],
                context.batch_size,
                0,
            )
            for values in _list_values(feature)
        ]
        return {
            name: group.from_unit(np.stack([step[name] for step in steps])) for name, group in context.targets.items()
        }

    return predict


def _predict_ridge(context: Context, vectors: Mapping[str, pd.DataFrame], stream: str, clips: pd.Series) -> Predict:
    """Return the function of `baselines.predict`'s ridge on the statistics of one stream."""
    tables = context.evaluation.tables
    statistics = vectors[stream].add_prefix(f"{stream}.")

    def predict(feature: Feature) -> dict[str, np.ndarray] | None:
        if not statistics.columns.isin([*feature.values]).any():
            return None
        changed = _repeat_rows(statistics, clips, feature)
        changed.index = [f"{number} {clip}" for number, clip in enumerate(changed.index)]  # distinct from real clips
        inputs, new = pd.concat([statistics, changed]), pd.DataFrame({"clip": changed.index})
        predicted = {
            name: baselines.predict_ridge(
                tables["training"], new, context.evaluation.tuning_clips, group.columns, inputs
            )
            for name, group in context.targets.items()
        }
        return {
            name: values.reshape(len(QUANTILES), len(clips), -1)
            for name, values in predicted.items()
            if values is not None
        }

    return predict


def _predict_trees(context: Context, vectors: Mapping[str, pd.DataFrame], clips: pd.Series) -> Predict:
    """Return the function of the baseline `boosted_trees`, fitted to the same clips and vectors."""
    evaluation = context.evaluation
    parts = select_tree_inputs(baselines.select_parts(vectors))
    columns = pd.concat([table.add_prefix(f"{name}.") for name, table in parts.items()], axis=1)
    learnt = baselines.select_joint_clips(
        evaluation.tables["training"], evaluation.scored_clips, evaluation.tuning_clips
    )
    inputs = columns.reindex(learnt["clip"]).to_numpy(float)
    models = {
        name: [_fit_column(inputs, learnt[column].to_numpy(float)) for column in group.columns]
        for name, group in context.targets.items()
    }

    def predict(feature: Feature) -> dict[str, np.ndarray] | None:
        if not columns.columns.isin([*feature.values]).any():
            return None
        changed = _repeat_rows(columns, clips, feature).to_numpy(float)
        return {
            name: np.stack([model(changed) for model in fitted], -1).reshape(len(QUANTILES), len(clips), -1)
            for name, fitted in models.items()
        }

    return predict


def _fit_column(inputs: np.ndarray, target: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return trees fitted to the clips with a known target; predictions are NaN without such clips."""
    labelled = np.isfinite(target)
    return (
        fit_target(inputs[labelled], target[labelled]).predict
        if labelled.any()
        else lambda new: np.full(len(new), np.nan)
    )


def _repeat_rows(table: pd.DataFrame, clips: pd.Series, feature: Feature) -> pd.DataFrame:
    """Return the rows of `clips` once for each value of the feature, with the feature set to it."""
    rows = table.reindex(clips).astype(float)
    changed = [
        rows.assign(**{name: value for name, value in values.items() if name in rows})
        for values in _list_values(feature)
    ]
    return pd.concat(changed)


def _list_values(feature: Feature) -> list[dict[str, float]]:
    """Return the statistics' values by name, for each value of the feature."""
    return [{name: float(at[index]) for name, at in feature.values.items()} for index in range(len(QUANTILES))]
