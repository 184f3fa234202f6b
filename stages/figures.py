"""Draw the figures and the report from tables and attention weights: plots/figures/, plots/pdf/, plots/report.html."""

import json
import os
from pathlib import Path
from typing import Annotated

import h5py
import pandas as pd
from pydantic import Field

from lib import errors, figures, parameters, report
from lib.parameters import Section

DATA, HISTORY, PREDICTIONS, ATTENTION, SCORES, PNG, PDF, REPORT = (
    Path(name)
    for name in (
        "metrics/data.json", "plots/history.csv", "data/predictions.csv", "data/attention.h5", "data/scores.csv",
        "plots/figures", "plots/pdf", "plots/report.html",
    )
)  # fmt: skip


class Figures(Section):
    dpi: Annotated[int, Field(ge=30, le=1200)]


class Parameters(Section):
    figures: Figures


def main() -> None:
    dpi = parameters.load("figures", Parameters).figures.dpi
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # no dates in the PDFs: equal figures are equal files
    predictions = pd.read_csv(PREDICTIONS)
    with h5py.File(ATTENTION) as file:
        attention = {clip: {name: data[()] for name, data in group.items()} for clip, group in file.items()}
    drawn = {
        "learning_curve": figures.learning_curve(pd.read_csv(HISTORY)),
        "predicted_against_actual": figures.predicted_against_actual(predictions),
        "error_distribution": figures.error_distribution(predictions),
        "attention_over_time": figures.attention_over_time(attention),
    }
    for folder in (PNG, PDF):
        folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(PNG / f"{name}.png", dpi=dpi)
        figure.savefig(PDF / f"{name}.pdf")
    captions = {name.replace("_", " ").capitalize(): PNG / f"{name}.png" for name in drawn}
    planted = json.loads(DATA.read_text())["source"] == "demo"
    REPORT.write_text(report.page(pd.read_csv(SCORES), captions, planted))


if __name__ == "__main__":
    errors.run_stage(main)
