"""Extract MFCC and log-mel spectrograms from every usable clip's sound: data/audio/, metrics/audio.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("audio")


def main() -> None:
    build.stage("audio")


if __name__ == "__main__":
    command.run_stage(main)
