"""Train the network and keep the best epoch: data/model.pt, plots/history.csv, metrics/train.json."""

import os

from lib.core import command, interrupts, parallel, parameters
from lib.training.settings import Parameters


def main() -> None:
    if os.environ.get("LOCAL_RANK", "0") != "0":  # started by the first process of a training on several devices
        parallel.end_with_parent()
    sections = parameters.load("train", Parameters)
    sections.resolve()
    with interrupts.loading():  # PyTorch takes seconds to load
        from lib.training.cached import train_if_changed

    train_if_changed(sections)


if __name__ == "__main__":
    command.run_stage(main)
