"""The tables of scores that the stage evaluate writes, for all target groups of a trained model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.artifacts import COMPARISONS, GROUP_SCORES, HEADLINE, SCORES, SPLIT_SCORES
from lib.core.clips import write_csv
from lib.core.errors import SettingError
from lib.core.targets import RELIABILITY, TargetGroup
from lib.scoring import baselines, same_person
from lib.scoring.baselines import is_video_in_training
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.evaluation import Evaluation, Predictions, select_labels
from lib.scoring.reliability import read_error_variance, weigh_by_reliability
from lib.scoring.tables import ScoredClips, comparison_table, group_table, headline, score_table, split_table
from lib.streams.base import ABOUT


class ScoreTables(NamedTuple):
    """The tables of `lib.scoring.tables` for all target groups, with a first column `targets`."""

    scores: pd.DataFrame
    comparisons: pd.DataFrame
    group_scores: pd.DataFrame
    split_scores: pd.DataFrame


def write(results: ScoreTables, split: str) -> None:
    """Write the tables, and the headline to metrics/scores.json under the name of the scored split."""
    write_csv(SCORES, results.scores)
    write_csv(COMPARISONS, results.comparisons)
    write_csv(GROUP_SCORES, results.group_scores)
    write_csv(SPLIT_SCORES, results.split_scores)
    headlines = {split: {name: headline(table) for name, table in results.scores.groupby("targets", sort=False)}}
    HEADLINE.write_text(json.dumps(headlines, indent=2) + "\n")


def compare_clips(data: Path, vectors: Mapping[str, pd.DataFrame], clips: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of `same_person.find_same_persons`, none if the stream embeddings below `data` has embeddings of
    another network than SFace.

    vectors: by stream, the pooled vectors of the clips.
    """
    about_file = data / "embeddings" / ABOUT
    if about_file.exists() and json.loads(about_file.read_text())["settings"]["network"] == same_person.NETWORK:
        return same_person.find_same_persons(vectors["embeddings"], clips)
    return pd.DataFrame(columns=same_person.COLUMNS)


class Options(NamedTuple):
    """Options of `score_all`.

    trees: whether boosted trees are a baseline. bootstrap: of all intervals and tests. attributes: inputs of the attribute
    baselines (lib/scoring/attributes.py), by name a row of numbers for each clip. weighting: of the labels in the scores and
    comparisons, "none" or RELIABILITY.
    """

    trees: bool
    bootstrap: Bootstrap
    attributes: Mapping[str, pd.DataFrame] = MappingProxyType({})
    weighting: str = "none"


def score_all(
    evaluation: Evaluation,
    predicted: Predictions,
    persons: pd.DataFrame,
    vectors: Mapping[str, pd.DataFrame],
    options: Options,
) -> ScoreTables:
    """Return the scores of the model and of the baselines, for each target group.

    persons: a row for each clip, a column for each kind of group of persons. vectors: inputs of the ridge regressions,
    by name a row of numbers for each clip.
    """
    tables = [
        _score_group(evaluation, name, target_group, predicted, persons, vectors=vectors, options=options)
        for name, target_group in evaluation.trained.targets.items()
    ]
    return ScoreTables(*(pd.concat(parts) for parts in zip(*tables, strict=True)))


def weigh_labels(actual: np.ndarray, error_variance: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Return the weights (N, K) of labels for scores: the inverse of their variance, mean 1 for each target.

    Raises SettingError if no label has an error variance. A label without one has the weight 1.
    """
    if not np.isfinite(error_variance).any():
        raise SettingError(
            f"evaluate.weighting = {RELIABILITY}, but no scored label of {', '.join(columns)} has a number and a standard"
            " deviation of raters; add columns NAME_n and NAME_sd to the table of clips, or set it to none"
        )
    return weigh_by_reliability(actual, error_variance, np.full(len(columns), np.nan))


def _score_group(
    evaluation: Evaluation,
    name: str,
    target_group: TargetGroup,
    predicted: Predictions,
    persons: pd.DataFrame,
    vectors: Mapping[str, pd.DataFrame],
    options: Options,
) -> ScoreTables:
    """Return the tables of one target group."""
    training, scored_clips, columns = evaluation.tables["training"], evaluation.scored_clips, target_group.columns
    actual = select_labels(scored_clips, target_group)
    labelled = np.isfinite(actual).any(1)
    mean, scale, _ = predicted[evaluation.scored_split][name]
    clip_tables = training, scored_clips, evaluation.tuning_clips
    fitted = baselines.predict(*clip_tables, columns, vectors, options.trees, options.attributes)
    fitted, outside = baselines.clip_predictions(fitted, target_group.range)
    predictions = {predictor: values[labelled] for predictor, values in ({"model": mean} | fitted).items()}
    clipped = {predictor: values[labelled] for predictor, values in outside.items()}
    in_training = is_video_in_training(training, scored_clips)[labelled]
    videos = scored_clips["video"][labelled].to_numpy()
    scored = ScoredClips(actual[labelled], predictions, videos, in_training, target_group, options.bootstrap)
    errors = read_error_variance(scored_clips, columns)[labelled]
    scored = replace(scored, clipped=clipped, error_variance=errors)
    if options.weighting == RELIABILITY:
        scored = replace(scored, weights=weigh_labels(actual[labelled], errors, columns))
    if (reference := evaluation.trained.training.references.get(name)) is not None:
        half_widths = reference.half_widths.numpy() * (np.ones_like(mean) if scale is None else scale)
        scored = replace(scored, half_widths=half_widths[labelled])
    splits = {
        split: (select_labels(table, target_group), predicted[split][name].mean, table["video"].to_numpy())
        for split, table in evaluation.tables.items()
        if split in predicted
    }
    tables = (
        score_table(scored),
        comparison_table(scored),
        group_table(scored, persons.loc[scored_clips["clip"]][labelled]),
        split_table(splits, target_group, options.bootstrap),
    )
    return ScoreTables(*(table.assign(targets=name)[["targets", *table.columns]] for table in tables))
