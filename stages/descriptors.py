"""Pool each clip's faces and flow into a hand-made descriptor: data/descriptors/, metrics/descriptors.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("descriptors")


def main() -> None:
    build.stage("descriptors")


if __name__ == "__main__":
    command.run_stage(main)
