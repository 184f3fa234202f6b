"""Sample every usable clip's frames at a fixed rate: data/frames/, metrics/frames.json."""

from lib.core import command
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.streams import build, frames


class Parameters(Section):
    frames: frames.Settings
    parallel: Parallel


def main() -> None:
    build.stage("frames", Parameters)


if __name__ == "__main__":
    command.run_stage(main)
