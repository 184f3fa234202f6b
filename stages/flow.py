"""Compute TV-L1 optical flow between consecutive aligned faces: data/flow/, metrics/flow.json."""

from lib.core import command
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.streams import build, flow


class Parameters(Section):
    flow: flow.Settings
    parallel: Parallel


def main() -> None:
    build.stage("flow", Parameters)


if __name__ == "__main__":
    command.run_stage(main)
