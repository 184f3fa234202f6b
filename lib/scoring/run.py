"""Evaluate the trained model, for the stage evaluate."""

import json

from lib.core import artifacts, cost
from lib.core.clips import write_csv
from lib.core.persons import read_persons
from lib.data import pooled
from lib.scoring import across, results
from lib.scoring.attributes import tabulate_attributes
from lib.scoring.evaluation import load_evaluation, tabulate_predictions
from lib.scoring.settings import Settings


def evaluate(settings: Settings) -> None:
    """Predict the clips of every split, and write all files of the stage, with the section `evaluate` of params.yaml."""
    evaluation = load_evaluation(settings.split, settings.batch_size)
    corpora = across.select_corpora(evaluation, settings.on)
    evaluation.count_lost().to_csv(artifacts.LOST, index=False)
    artifacts.LENGTHS.write_text(json.dumps(evaluation.measure_lengths(), indent=2) + "\n")
    vectors = pooled.pool_vectors(artifacts.DATA)
    write_csv(artifacts.SAME_PERSON, results.compare_clips(artifacts.DATA, vectors, evaluation.verified))
    provenance = evaluation.provenance | {"cost": cost.tabulate(cost.read_training_costs())}
    artifacts.PROVENANCE.write_text(json.dumps(provenance, indent=2) + "\n")
    predicted = evaluation.predict()
    write_csv(artifacts.PREDICTIONS, tabulate_predictions(evaluation, predicted))
    write_csv(artifacts.OUTLIERS, evaluation.find_outliers(vectors))
    persons = read_persons(artifacts.GROUPS)
    attributes = tabulate_attributes(evaluation.usable, persons, vectors, artifacts.DATA)
    options = results.Options(settings.trees, settings.bootstrap, attributes, settings.weighting)
    write_csv(artifacts.CORPUS_SCORES, across.score_corpora(evaluation, corpora, vectors, settings))
    results.write(results.score_all(evaluation, predicted, persons, vectors, options), evaluation.scored_split)
