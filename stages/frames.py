"""Sample every usable clip's frames at a fixed rate: data/frames/, metrics/frames.json."""

from lib.core import command
from lib.streams import build


def main() -> None:
    build.build_stream("frames")


if __name__ == "__main__":
    command.run_stage(main)
