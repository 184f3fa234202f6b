"""Predict the clips of every split and score the model next to the baselines."""

import json
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from lib.core import artifacts as files
from lib.core import command, parameters
from lib.core.clips import write_csv
from lib.core.parameters import Section
from lib.data import pooled
from lib.scoring.evaluation import load_evaluation, prediction_table
from lib.scoring.results import Options, score_all
from lib.scoring.tables import headline


class Evaluate(Section):
    split: Literal["test", "validation"]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    trees: bool
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


class Parameters(Section):
    evaluate: Evaluate


def main() -> None:
    settings = parameters.load("evaluate", Parameters).evaluate
    evaluation = load_evaluation(settings.split, settings.batch_size)
    evaluation.count_lost().to_csv(files.LOST, index=False)
    files.PROVENANCE.write_text(json.dumps(evaluation.trained.provenance, indent=2) + "\n")
    predicted = evaluation.predict()
    write_csv(files.PREDICTIONS, prediction_table(evaluation, predicted))
    persons = pd.read_csv(files.GROUPS, dtype=str, keep_default_na=False).set_index("clip")
    options = Options(settings.trees, settings.resamples, settings.seed)
    results = score_all(evaluation, predicted, persons, pooled.vectors(files.DATA), options)
    write_csv(files.SCORES, results.scores)
    write_csv(files.COMPARISONS, results.comparisons)
    write_csv(files.GROUP_SCORES, results.group_scores)
    write_csv(files.SPLIT_SCORES, results.split_scores)
    scores = {name: headline(of_group) for name, of_group in results.scores.groupby("targets", sort=False)}
    files.TEST_METRICS.write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    command.run_stage(main)
