"""Find the points of the aligned face in every clip: data/landmarks/, metrics/landmarks.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("landmarks")


def main() -> None:
    build.stage("landmarks")


if __name__ == "__main__":
    command.run_stage(main)
