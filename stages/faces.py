"""Find, follow and align the speaker's face in every clip: data/faces/, metrics/faces.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("faces")


def main() -> None:
    build.stage("faces")


if __name__ == "__main__":
    command.run_stage(main)
