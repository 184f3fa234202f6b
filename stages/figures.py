"""Draw the figures, the report and the model card from tables, attention weights and samples: plots/figures/, plots/pdf/,
plots/report.html, docs/model_card.md."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import h5py
from pydantic import Field

from lib.core import clips, command, parameters
from lib.core.parameters import Section
from lib.core.targets import Targets
from lib.report import card, figures, page
from lib.report.figures import read

DATA, CLIPS, HISTORY, PREDICTIONS, ATTENTION, SAMPLES, SCORES, GROUP_SCORES, SPLIT_SCORES, PNG, PDF, REPORT, CARD = (
    Path(name)
    for name in (
        "metrics/data.json", "data/clips.csv", "plots/history.csv", "data/predictions.csv", "data/attention.h5",
        "data/samples.h5", "data/scores.csv", "data/group_scores.csv", "data/split_scores.csv", "plots/figures",
        "plots/pdf", "plots/report.html", "docs/model_card.md",
    )
)  # fmt: skip


class Figures(Section):
    dpi: Annotated[int, Field(ge=30, le=1200)]


class Parameters(Section):
    figures: Figures
    model: dict[str, Any]  # for the model card; train checks it
    targets: Targets


def main() -> None:
    parameters_ = parameters.load("figures", Parameters)
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # no dates in the PDFs: equal figures are equal files
    groups = clips.read_csv(GROUP_SCORES)
    with h5py.File(ATTENTION) as attention, h5py.File(SAMPLES) as samples:
        looks, shown = read.attention(attention), read.samples(samples)
    history, predictions, scores, split_scores = map(clips.read_csv, (HISTORY, PREDICTIONS, SCORES, SPLIT_SCORES))
    targets = {name: parameters_.targets[name] for name in predictions["targets"].unique()}
    results = figures.Results(history, clips.read(CLIPS), predictions, scores, split_scores, looks, shown, targets)
    files: dict[str, dict[str, Path]] = {}
    for name, group in (("", None), *targets.items()):
        for folder in (PNG / name, PDF / name):
            folder.mkdir(parents=True, exist_ok=True)
        files[name] = {}
        for title, figure in figures.drawn(results.of(name), group):
            figure.savefig(PNG / name / f"{title}.png", dpi=parameters_.figures.dpi)
            figure.savefig(PDF / name / f"{title}.pdf")
            files[name][title.replace("_", " ").capitalize()] = PNG / name / f"{title}.png"
    data, split = json.loads(DATA.read_text()), results.predictions["split"].iloc[0]
    REPORT.write_text(page.page(results.scores, groups, targets, files, split, data["sources"]))
    CARD.write_text(card.card(results.scores, groups, targets, split, data, parameters_.model))


if __name__ == "__main__":
    command.run_stage(main)
