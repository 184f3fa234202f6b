"""Draw the figures, the report and the model card from tables, attention weights and samples: plots/figures/, plots/pdf/,
plots/captions.tex, plots/tables/, plots/paper/, plots/report.html, docs/model_card.md,
docs/data_sheet.md."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import h5py
from dvc.utils.serialize import load_yaml
from pydantic import ConfigDict, Field

from lib.core import clips, command, parameters
from lib.core.artifacts import (
    ATTENTION,
    CAPTIONS,
    CLIPS,
    COMPARISONS,
    CONTROLS,
    DATA_METRICS,
    DATA_SHEET,
    DELETION,
    EMBEDDING_MAP,
    GROUP_SCORES,
    HISTORY,
    IMPORTANCE,
    LATEX_TABLES,
    LOST,
    MEAN_ATTENTION,
    MODEL_CARD,
    PAPER,
    PARAMETERS,
    PDF_FIGURES,
    PNG_FIGURES,
    PREDICTIONS,
    PROBES,
    PROVENANCE,
    REPORT,
    ROBUSTNESS,
    SAMPLES,
    SCORES,
    SHIPPED_PARAMETERS,
    SPLIT_SCORES,
)  # fmt: skip
from lib.core.parameters import Section
from lib.core.targets import Targets
from lib.report import card, datasheet, figures, latex, page, paper
from lib.report.figures import read


class Figures(Section):
    dpi: Annotated[int, Field(ge=30, le=1200)]


class Evaluate(Section):
    model_config = ConfigDict(extra="ignore")

    split: str


class Parameters(Section):
    figures: Figures
    evaluate: Evaluate
    model: dict[str, Any]  # for the model card; train checks it
    targets: Targets


def main() -> None:
    parameters_ = parameters.load("figures", Parameters)
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # no dates in the PDFs: equal figures are equal files
    groups = clips.read_csv(GROUP_SCORES)
    with h5py.File(ATTENTION) as attention, h5py.File(MEAN_ATTENTION) as mean_attention, h5py.File(SAMPLES) as samples:
        looks, mean, seen = read.attention(attention), read.mean_attention(mean_attention), read.samples(samples)
    with h5py.File(IMPORTANCE) as file:
        importance = read.importance(file)
    data = json.loads(DATA_METRICS.read_text())
    history, predictions, scores, split_scores = map(clips.read_csv, (HISTORY, PREDICTIONS, SCORES, SPLIT_SCORES))
    split = parameters_.evaluate.split
    predictions = predictions[predictions["split"] == split].reset_index(drop=True)
    targets = {name: parameters_.targets[name] for name in predictions["targets"].unique()}
    lost, controls, deletion, robust = map(clips.read_csv, (LOST, CONTROLS, DELETION, ROBUSTNESS))
    probes, places = clips.read_csv(PROBES), clips.read_csv(EMBEDDING_MAP)
    tables = history, clips.read(CLIPS), predictions, scores, split_scores
    results = figures.Results(
        *tables, looks, seen, targets, data, lost, controls, mean, importance, deletion, robust, probes, places
    )
    shown, included = [], []
    for name, group in (("", None), *targets.items()):
        for folder in (PNG_FIGURES / name, PDF_FIGURES / name):
            folder.mkdir(parents=True, exist_ok=True)
        for title, figure in figures.draw_all(results.of(name), group):
            figure.savefig(PNG_FIGURES / name / f"{title}.png", dpi=parameters_.figures.dpi)
            wide = figures.for_paper(figure)
            figure.savefig(PDF_FIGURES / name / f"{title}.pdf")
            included.append(paper.Included(Path(name, title).as_posix(), wide))
            kind = figures.FIGURES[title]
            words = title.replace("_", " ").capitalize(), kind.CAPTION
            shown.append(page.Drawn(name, kind.SECTION, *words, PNG_FIGURES / name / f"{title}.png"))
    provenance = json.loads(PROVENANCE.read_text())
    run = page.Run(provenance, data, split, *map(load_yaml, (PARAMETERS, SHIPPED_PARAMETERS)))
    titled = {Path(one.targets, one.file.stem).as_posix(): one.caption for one in shown}
    CAPTIONS.write_text(latex.captions(titled))
    LATEX_TABLES.mkdir(parents=True, exist_ok=True)
    for name, group in targets.items():
        (LATEX_TABLES / f"{name}.tex").write_text(latex.headline(results.of(name).scores, group, split))
    compared = clips.read_csv(COMPARISONS)
    found = {
        name: page.headline(page.of(scores, name), page.of(compared, name), group) for name, group in targets.items()
    }
    PAPER.parent.mkdir(parents=True, exist_ok=True)
    PAPER.write_text(paper.paper(included, found, run.parameters, data, provenance, targets))
    of_page = scores, compared, groups, results.clips
    REPORT.write_text(page.page(*of_page, targets, shown, run, parameters_.figures.dpi))
    MODEL_CARD.write_text(card.card(results.scores, groups, targets, split, data, parameters_.model, robust))
    streams = [name for name, of in run.parameters.items() if isinstance(of, dict) and of.get("enabled")]
    DATA_SHEET.write_text(datasheet.datasheet(results.clips, groups, targets, data, streams))


if __name__ == "__main__":
    command.run_stage(main)
