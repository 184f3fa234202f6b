"""Make vectors of what is said in each clip: data/text/, metrics/text.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("text")


def main() -> None:
    build.stage("text")


if __name__ == "__main__":
    command.run_stage(main)
