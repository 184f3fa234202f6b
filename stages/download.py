"""Bring the corpora in, unpack them and verify every clip: data/raw/, metrics/data.json, and tables of clips in data/."""

from lib.core import command, parameters
from lib.core.targets import TargetSections, check_heads
from lib.sources import download
from lib.sources.download import Parameters
from lib.streams import base


def main() -> None:
    settings = parameters.load("download", Parameters).download
    everything = parameters.load_all()  # check later stages' parameters now, not after hours of work
    download.check_targets(everything, settings)
    base.check_enabled(everything)
    check_heads(parameters.check({"targets": everything["targets"]}, TargetSections).targets)
    fairness_group = download.find_fairness_group(everything)
    download.download(settings, download.find_scored(everything, settings), fairness_group)


if __name__ == "__main__":
    command.run_stage(main)
