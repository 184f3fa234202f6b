"""Find, follow and align the speaker's face in every clip: data/faces/, metrics/faces.json."""

from lib.core import command
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.streams import build, faces


class Parameters(Section):
    faces: faces.Settings
    parallel: Parallel


def main() -> None:
    build.stage("faces", Parameters)


if __name__ == "__main__":
    command.run_stage(main)
