"""Predict the clips of every split and score the model next to the baselines."""

from lib.core import command, interrupts, parameters
from lib.scoring.settings import Settings


class Parameters(parameters.Section):
    evaluate: Settings


def main() -> None:
    settings = parameters.load("evaluate", Parameters).evaluate
    with interrupts.loading():  # PyTorch takes seconds to load
        from lib.scoring import run

    run.evaluate(settings)


if __name__ == "__main__":
    command.run_stage(main)
