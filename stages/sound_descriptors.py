"""Make vectors of what is heard in each clip: data/sound_descriptors/, metrics/sound_descriptors.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("sound_descriptors")


def main() -> None:
    build.stage("sound_descriptors")


if __name__ == "__main__":
    command.run_stage(main)
