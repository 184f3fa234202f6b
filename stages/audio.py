"""Extract MFCC and log-mel spectrograms from every usable clip's sound: data/audio/, metrics/audio.json."""

from lib.core import command
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.streams import audio, build


class Parameters(Section):
    audio: audio.Settings
    parallel: Parallel


def main() -> None:
    build.stage("audio", Parameters)


if __name__ == "__main__":
    command.run_stage(main)
