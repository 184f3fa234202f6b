"""Compute TV-L1 optical flow between consecutive aligned faces: data/flow/, metrics/flow.json."""

from lib.core import command
from lib.streams import build


def main() -> None:
    build.build_stream("flow")


if __name__ == "__main__":
    command.run_stage(main)
