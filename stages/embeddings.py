"""Embed every clip's faces by a frozen network: data/embeddings/, metrics/embeddings.json."""

from lib.core import command
from lib.streams import build

Parameters = build.parameters_of("embeddings")


def main() -> None:
    build.stage("embeddings")


if __name__ == "__main__":
    command.run_stage(main)
