"""Bring the corpora in, unpack them and verify every clip: data/raw/, data/clips.csv, data/groups.csv, metrics/data.json."""

from lib.core import command, parameters
from lib.sources import download
from lib.sources.download import Parameters


def main() -> None:
    download.download(parameters.load("download", Parameters).download)


if __name__ == "__main__":
    command.run_stage(main)
