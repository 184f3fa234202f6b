"""Draw the figures, and write tables, report, paper, model card and data sheet."""

import os
from typing import Any

from lib.core import command, interrupts, parameters
from lib.core.parameters import Section
from lib.core.targets import Targets
from lib.report.settings import Settings


class Evaluate(Section, extra="ignore"):
    split: str


class Parameters(Section):
    figures: Settings
    evaluate: Evaluate
    model: dict[str, Any]  # for the model card; train checks it
    targets: Targets


def main() -> None:
    settings = parameters.load("figures", Parameters)
    with interrupts.loading():  # pandas and Matplotlib take seconds to load
        from lib.report import write
        from lib.report.privacy import Privacy

    os.environ["SOURCE_DATE_EPOCH"] = "0"  # PDFs without dates, so that equal figures are equal files
    privacy = Privacy.from_settings(settings.figures.faces, settings.figures.names, settings.model["encoders"])
    loaded = write.hide(write.load_results(settings.evaluate.split, settings.targets), privacy)
    drawn, included = write.write_figures(loaded, settings.figures.dpi)
    write.write_latex(loaded, drawn, included)
    write.write_pages(loaded, drawn, settings.figures.dpi)
    write.log_results(loaded, drawn)


if __name__ == "__main__":
    command.run_stage(main)
