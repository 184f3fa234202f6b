"""Run every analysis, for the stage analyse."""

from typing import Any

from pydantic import create_model

from lib import analysis
from lib.analysis._context import Context
from lib.core.parameters import Section
from lib.data.changes import Augment
from lib.scoring.evaluation import Scoring, load_evaluation


def settings_model() -> type[Section]:
    """Return the model of the section `analyse`: the keys of every analysis' Settings."""
    bases = dict.fromkeys(analysis.load(name).Settings for name in analysis.list_names())
    return create_model("Analyse", __base__=tuple(bases))


def run_all(settings: Any, evaluate: Scoring, augment: Augment) -> None:
    """Run every analysis with the sections `analyse`, `evaluate` and `train.augment` of params.yaml."""
    evaluation = load_evaluation(evaluate.split, evaluate.batch_size)
    context = Context(evaluation, settings, evaluate.bootstrap, augment)
    for name in analysis.list_names():
        print(f"analyse {name}", flush=True)
        analysis.load(name).run(context)
