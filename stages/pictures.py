"""Bring in pictures that the user has of every clip, faces and drawings: data/pictures/, metrics/pictures.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("pictures")


def main() -> None:
    build.stage("pictures")


if __name__ == "__main__":
    command.run_stage(main)
