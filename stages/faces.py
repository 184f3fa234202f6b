"""Detect, track and align the face of the main person in every clip: data/faces/, metrics/faces.json."""

from lib.core import command
from lib.streams import build


def main() -> None:
    build.build_stream("faces")


if __name__ == "__main__":
    command.run_stage(main)
