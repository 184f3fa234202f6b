"""Read the results of a run, and write its figures, tables, report, paper, model card and data sheet."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import pandas as pd

from lib.core import artifacts as files
from lib.core import cost, loggers
from lib.core.clips import read_clip_table, read_csv
from lib.core.parameters import read_yaml
from lib.core.targets import Targets
from lib.report import card, croissant, datasheet, figures, latex, names, page, paper
from lib.report.card_header import make_header
from lib.report.citations import find_cited, format_bibtex
from lib.report.figures import read
from lib.report.privacy import Privacy, Pseudonyms, rename_clips
from lib.report.verdict import describe_headline, describe_same_persons, select_group
from lib.sources import listing


@dataclass(frozen=True)
class RunResults:
    """The inputs of all documents: `results` for the figures, and the tables that no figure uses."""

    results: figures.FigureInputs
    groups: pd.DataFrame
    comparisons: pd.DataFrame
    outliers: pd.DataFrame
    run: page.PipelineRun

    @property
    def targets(self) -> Targets:
        return self.results.targets


def load_results(split: str, targets: Targets) -> RunResults:
    """Read the outputs of the earlier stages. split: the scored split; targets: all groups of params.yaml."""
    predictions = _read_table(files.PREDICTIONS)
    predictions = predictions[predictions["split"] == split].reset_index(drop=True)
    data = json.loads(files.DATA_METRICS.read_text())
    with h5py.File(files.ATTENTION) as attention, h5py.File(files.MEAN_ATTENTION) as mean_attention:
        clip_attention, average_attention = read.read_attention(attention), read.read_mean_attention(mean_attention)
    with h5py.File(files.SAMPLES) as samples, h5py.File(files.IMPORTANCE) as importance:
        sample_clips, important = read.read_samples(samples), read.read_importance(importance)
    with h5py.File(files.AUGMENTED) as augmented:
        augmented_clips = read.read_samples(augmented)
    results = figures.FigureInputs(
        history=_read_table(files.HISTORY),
        clips=read_clip_table(files.CLIPS),
        predictions=predictions,
        scores=_read_table(files.SCORES),
        split_scores=_read_table(files.SPLIT_SCORES),
        corpus_scores=_read_table(files.CORPUS_SCORES),
        attention=clip_attention,
        samples=sample_clips,
        augmented=augmented_clips,
        targets={name: targets[name] for name in predictions["targets"].unique()},
        data=data,
        lost=_read_table(files.LOST),
        controls=_read_table(files.CONTROLS),
        mean_attention=average_attention,
        importance=important,
        deletion=_read_table(files.DELETION),
        robustness=_read_table(files.ROBUSTNESS),
        probes=_read_table(files.PROBES),
        lens=_read_table(files.LENS),
        feature_importance=_read_table(files.FEATURE_IMPORTANCE),
        partial_dependence=_read_table(files.PARTIAL_DEPENDENCE),
        cue_scores=_read_table(files.CUE_SCORES),
        layer_weights=_read_table(files.LAYER_WEIGHTS),
        map=_read_table(files.EMBEDDING_MAP),
    )
    provenance = json.loads(files.PROVENANCE.read_text())
    parameters = read_yaml(files.PARAMETERS)
    run_cost = cost.describe(cost.read_costs()) or cost.describe(
        cost.parse(provenance.get("cost", {})), "for the stages up to train, in another folder"
    )
    same_persons = describe_same_persons(_read_table(files.SAME_PERSON), parameters, data, split)
    shipped, lengths = read_yaml(files.SHIPPED_PARAMETERS), json.loads(files.LENGTHS.read_text())
    cues = None if results.cue_scores.empty else results.cue_scores
    run = page.PipelineRun(
        provenance, data, split, parameters, shipped, same_persons, cost=run_cost, lengths=lengths, cues=cues
    )
    groups, comparisons, outliers = map(_read_table, (files.GROUP_SCORES, files.COMPARISONS, files.OUTLIERS))
    return RunResults(results, groups, comparisons, outliers, run)


def hide(loaded: RunResults, privacy: Privacy) -> RunResults:
    """Return the results without faces and names of clips, as far as the settings require."""
    results, outliers = privacy.hide(loaded.results), loaded.outliers
    if privacy.names == "pseudonym":
        outliers = rename_clips(outliers, Pseudonyms(loaded.results.clips["clip"]))
    return replace(loaded, results=results, outliers=outliers, run=loaded.run._replace(data=results.data))


def _read_table(path: Path) -> pd.DataFrame:
    return read_csv(path, files.TEXT_COLUMNS[path])


def write_figures(loaded: RunResults, dpi: int) -> tuple[list[page.ReportFigure], list[paper.PaperFigure]]:
    """Write every figure as PNG and PDF; return the figures of the report and of the paper."""
    drawn, included = [], []
    results = names.prepare_figures(loaded.results)
    for name, target_group in (("", None), *results.targets.items()):
        note = names.describe_limit(loaded.targets[name]) if target_group else ""
        png, pdf = files.PNG_FIGURES / name, files.PDF_FIGURES / name
        for folder in (png, pdf):
            folder.mkdir(parents=True, exist_ok=True)
        for title, figure in figures.draw_all(results.select_targets(name), target_group):
            figure.savefig(png / f"{title}.png", dpi=dpi)
            page.shrink_png(png / f"{title}.png")
            is_wide = figures.fit_to_paper(figure)
            figure.savefig(pdf / f"{title}.pdf")
            module = figures.FIGURES[title]
            words = title.replace("_", " ").capitalize()
            caption = figures.make_caption(module, results.select_targets(name), target_group) + note
            drawn.append(page.ReportFigure(name, module.SECTION, words, caption, png / f"{title}.png"))
            if not figures.is_empty(figure):
                included.append(paper.PaperFigure(Path(name, title).as_posix(), is_wide))
    return drawn, included


def log_results(loaded: RunResults, drawn: list[page.ReportFigure]) -> None:
    """Send the model's scores on all clips of the scored split, the figures and the model to the loggers of the run."""
    scores, parameters = loaded.results.scores, loaded.run.parameters
    rows = scores[(scores["predictor"] == "model") & (scores["subset"] == "all")].dropna(subset="value")
    named = {f"{loaded.run.split}/{row.targets}/{row.score}/{row.target}": row.value for row in rows.itertuples()}
    pictures = {f"figures/{Path(figure.targets, figure.file.stem).as_posix()}": figure.file for figure in drawn}
    results = loggers.LoggedResults({name: float(value) for name, value in named.items()}, pictures, files.MODEL)
    loggers.log_results(parameters["train"]["loggers"], parameters, results)


def write_latex(loaded: RunResults, drawn: list[page.ReportFigure], included: list[paper.PaperFigure]) -> None:
    """Write captions, the headline's tables, and the paper."""
    results, run = loaded.results, loaded.run
    captions = {Path(figure.targets, figure.file.stem).as_posix(): figure.caption for figure in drawn}
    files.CAPTIONS.write_text(latex.format_captions(captions))
    files.LATEX_TABLES.mkdir(parents=True, exist_ok=True)
    headlines = {}
    for name, target_group in loaded.targets.items():
        scores, compared = select_group(results.scores, name), select_group(loaded.comparisons, name)
        for kind, tabulate in (("", latex.tabulate_headline), ("_targets", latex.tabulate_targets)):
            text = tabulate(scores, target_group, run.split, f"tab:{name}{kind}")
            (files.LATEX_TABLES / f"{name}{kind}.tex").write_text(text)
        headlines[name] = describe_headline(scores, compared, target_group)
    files.PAPER.parent.mkdir(parents=True, exist_ok=True)
    text = paper.make_paper(included, headlines, run, loaded.targets, loaded.comparisons, loaded.groups)
    files.PAPER.write_text(text)
    (files.PAPER.parent / "references.bib").write_text(format_bibtex(find_cited(text)))


def write_pages(loaded: RunResults, drawn: list[page.ReportFigure], dpi: int) -> None:
    """Write the report, the model card, the data sheet and the Croissant file."""
    results, groups, targets, run = loaded.results, loaded.groups, loaded.targets, loaded.run
    scores, robustness = results.scores, results.robustness
    files.REPORT.write_text(
        page.render_report(scores, loaded.comparisons, groups, results.clips, targets, figures=drawn, run=run, dpi=dpi)
    )
    archives = listing.read_list(files.ARCHIVE_LIST)
    described = croissant.make_croissant(results.clips, groups, targets, run, files.CLIPS, archives)
    files.CROISSANT.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    header = make_header(scores, targets, run)
    scores, compared, groups, robustness = map(names.escape_table, (scores, loaded.comparisons, groups, robustness))
    escaped = names.escape_groups(targets)
    files.MODEL_CARD.write_text(f"{header}\n{card.make_card(scores, compared, groups, robustness, escaped, run)}")
    enabled = [name for name, section in run.parameters.items() if isinstance(section, dict) and section.get("enabled")]
    clips = results.clips.rename(columns=names.escape_markdown)
    texts = ("name", "column", "clip")
    outliers = loaded.outliers.assign(**{text: loaded.outliers[text].map(names.escape_markdown) for text in texts})
    files.DATA_SHEET.write_text(datasheet.make_datasheet(clips, groups, outliers, escaped, run, enabled))
