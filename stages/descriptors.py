"""Pool each clip's faces and flow into a hand-made descriptor: data/descriptors/, metrics/descriptors.json."""

from lib.core import command
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.streams import build, descriptors


class Parameters(Section):
    descriptors: descriptors.Settings
    parallel: Parallel


def main() -> None:
    build.stage("descriptors", Parameters)


if __name__ == "__main__":
    command.run_stage(main)
