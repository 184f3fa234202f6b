"""The tables of scores that the stage evaluate writes, over all target groups of a trained model."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.artifacts import COMPARISONS, GROUP_SCORES, SCORES, SPLIT_SCORES, TEST_METRICS
from lib.core.clips import write_csv
from lib.core.targets import TargetGroup
from lib.scoring import baselines
from lib.scoring.baselines import is_seen
from lib.scoring.evaluation import Evaluation, Predictions, actual_values
from lib.scoring.scores import Bootstrap
from lib.scoring.tables import ScoredClips, comparison_table, group_table, headline, score_table, split_table


class Results(NamedTuple):
    """Tables with a first column `targets`, as `lib.scoring.tables` makes them for each target group."""

    scores: pd.DataFrame
    comparisons: pd.DataFrame
    group_scores: pd.DataFrame
    split_scores: pd.DataFrame


def write(results: Results) -> None:
    """Write the tables, and the headline to metrics/test.json."""
    write_csv(SCORES, results.scores)
    write_csv(COMPARISONS, results.comparisons)
    write_csv(GROUP_SCORES, results.group_scores)
    write_csv(SPLIT_SCORES, results.split_scores)
    headlines = {name: headline(of_group) for name, of_group in results.scores.groupby("targets", sort=False)}
    TEST_METRICS.write_text(json.dumps(headlines, indent=2) + "\n")


class Options(NamedTuple):
    """trees: whether boosted trees are a baseline. bootstrap: over videos, of all intervals and tests."""

    trees: bool
    bootstrap: Bootstrap


def score_all(
    evaluation: Evaluation,
    predicted: Predictions,
    persons: pd.DataFrame,
    vectors: Mapping[str, pd.DataFrame],
    options: Options,
) -> Results:
    """Return the scores of the model and of the baselines, for each target group.

    persons: a row for each clip, a column for each kind of group of persons. vectors: what ridge regressions read.
    """
    tables = [
        _score_group(evaluation, name, group, predicted, persons, vectors, options)
        for name, group in evaluation.trained.targets.items()
    ]
    return Results(*(pd.concat(of_groups) for of_groups in zip(*tables, strict=True)))


def _score_group(
    evaluation: Evaluation,
    name: str,
    group: TargetGroup,
    predicted: Predictions,
    persons: pd.DataFrame,
    vectors: Mapping[str, pd.DataFrame],
    options: Options,
) -> Results:
    training, test, columns = evaluation.tables["training"], evaluation.test, group.columns
    actual = actual_values(test, group)
    known = np.isfinite(actual).any(1)
    mean, scale, _ = predicted[evaluation.scored_split][name]
    predictions = {"model": mean}
    predictions |= baselines.predict(training, test, evaluation.validation, columns, vectors, options.trees)
    predictions = {predictor: values[known] for predictor, values in predictions.items()}
    seen, bootstrap = is_seen(training, test)[known], options.bootstrap
    scored = ScoredClips(actual[known], predictions, test["video"][known].to_numpy(), seen, group, bootstrap)
    if (reference := evaluation.trained.references.get(name)) is not None:
        half_widths = reference.half_widths.numpy() * (np.ones_like(mean) if scale is None else scale)
        scored = replace(scored, half_widths=half_widths[known])
    of_splits = {
        split: (actual_values(table, group), predicted[split][name].mean, table["video"].to_numpy())
        for split, table in evaluation.tables.items()
        if split in predicted
    }
    tables = (
        score_table(scored),
        comparison_table(scored),
        group_table(scored, persons.loc[test["clip"]][known]),
        split_table(of_splits, group, bootstrap),
    )
    return Results(*(table.assign(targets=name)[["targets", *table.columns]] for table in tables))
