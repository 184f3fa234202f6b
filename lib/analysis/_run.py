"""Run every analysis, for the stage analyse."""

from typing import Any

from lib import analysis
from lib.analysis._context import Context
from lib.data.settings import Augment
from lib.scoring.evaluation import load_evaluation
from lib.scoring.settings import Scoring


def run_all(settings: Any, evaluate: Scoring, augment: Augment) -> None:
    """Run every analysis with the sections `analyse`, `evaluate` and `train.augment` of params.yaml."""
    evaluation = load_evaluation(evaluate.split, evaluate.batch_size)
    context = Context(evaluation, settings, evaluate.bootstrap, augment)
    for name in analysis.list_names():
        print(f"analyse {name}", flush=True)
        analysis.load(name).run(context)
