"""Bring in the vectors that the user has of every clip: data/features/, metrics/features.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("features")


def main() -> None:
    build.stage("features")


if __name__ == "__main__":
    command.run_stage(main)
