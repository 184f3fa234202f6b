"""Run every analysis of lib/analysis on the trained model."""

from lib.analysis._settings import settings_model
from lib.core import command, interrupts, parameters
from lib.core.parameters import Section
from lib.data.settings import Augment
from lib.scoring.settings import Scoring


class Train(Section, extra="ignore"):
    """The key of the section `train` that the analysis of augmentation uses."""

    augment: Augment


class Parameters(Section):
    analyse: settings_model()  # type: ignore[valid-type]
    evaluate: Scoring
    train: Train


def main() -> None:
    sections = parameters.load("analyse", Parameters)
    with interrupts.loading():  # PyTorch takes seconds to load
        from lib.analysis._run import run_all

    run_all(sections.analyse, sections.evaluate, sections.train.augment)


if __name__ == "__main__":
    command.run_stage(main)
