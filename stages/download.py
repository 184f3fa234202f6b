"""Bring the corpora in, unpack them and verify every clip: data/raw/, metrics/data.json, and tables of clips in data/."""

from lib.core import command, interrupts, parameters
from lib.core.targets import TargetSections, check_heads
from lib.sources import settings as checks
from lib.sources.settings import Parameters
from lib.streams import base


def main() -> None:
    settings = parameters.load("download", Parameters).download
    everything = parameters.load_all()  # check later stages' parameters now, not after hours of work
    checks.check_targets(everything, settings)
    base.check_enabled(everything)
    check_heads(parameters.check({"targets": everything["targets"]}, TargetSections).targets)
    scored, fairness_group = checks.find_scored(everything, settings), checks.find_fairness_group(everything)
    with interrupts.loading():  # pandas and PyAV are slow to load
        from lib.sources import download

    download.download(settings, scored, fairness_group)


if __name__ == "__main__":
    command.run_stage(main)
