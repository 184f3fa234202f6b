"""Run every analysis of lib/analysis on the trained model."""

from lib.analysis._run import run_all, settings_model
from lib.core import command, parameters
from lib.core.parameters import Section
from lib.data.changes import Augment
from lib.scoring.evaluation import Scoring


class Train(Section, extra="ignore"):
    """The key of the section `train` that the analysis of augmentation uses."""

    augment: Augment


class Parameters(Section):
    analyse: settings_model()  # type: ignore[valid-type]
    evaluate: Scoring
    train: Train


def main() -> None:
    sections = parameters.load("analyse", Parameters)
    run_all(sections.analyse, sections.evaluate, sections.train.augment)


if __name__ == "__main__":
    command.run_stage(main)
