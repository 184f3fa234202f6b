"""Bring in the vectors that the user has of every clip: data/features/, metrics/features.json."""

from lib.core import command
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.streams import build, features


class Parameters(Section):
    features: features.Settings
    parallel: Parallel


def main() -> None:
    build.stage("features", Parameters)


if __name__ == "__main__":
    command.run_stage(main)
