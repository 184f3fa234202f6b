"""Run every analysis of lib/analysis on the trained model."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from lib.analysis._run import run_all, settings_model
from lib.core import command, parameters
from lib.core.parameters import Section


class Evaluate(Section):
    """The keys of the section `evaluate` that hold for analyses too."""

    model_config = ConfigDict(extra="ignore")

    split: Literal["test", "validation"]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


class Parameters(Section):
    analyse: settings_model()  # type: ignore[valid-type]
    evaluate: Evaluate


def main() -> None:
    given = parameters.load("analyse", Parameters)
    run_all(given.analyse, given.evaluate)


if __name__ == "__main__":
    command.run_stage(main)
