"""The report: one HTML file without external links. Results per target come first, then set-up, data, scores and figures."""

import base64
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from lib.core import artifacts
from lib.core.clips import SYNTHETIC
from lib.core.targets import INTERVAL_LEVEL, TargetGroup, Targets
from lib.report import ceilings, lengths, score_tables, verdict, words
from lib.report.lengths import list_lengths
from lib.report.provenance import describe_newest_input, format_commit, list_versions
from lib.report.verdict import select_group
from lib.scoring.bootstrap import MIN_VIDEOS
from lib.scoring.ceilings import CEILING

SECTIONS = {
    "run": "Setup",
    "data": "Data",
    "results": "Results",
    "corpora": "Across corpora",
    "needs": "Input ablations",
    "importance": "Attribution",
    "robustness": "Robustness",
    "attention": "Attention",
    "features": "Embeddings",
    "samples": "Examples",
    "persons": "Subgroups",
    "limits": "Limitations",
}
"""Titles of the sections by their names, in order."""
_LIMITS = (
    "Labels describe how raters perceived the person in a clip. They do not say what the person is like.",
    "Intervals and p-values describe this trained model on these clips. Another seed, corpus, language, camera or culture"
    " may give other results. tools.ablate measures the spread over seeds.",
    "An unseen video may show a person of the training clips: the corpora do not identify people.",
    "Attention weights show where information can flow, not what a prediction depends on.",
)
_FILES = {
    "model card": artifacts.MODEL_CARD,
    "data sheet": artifacts.DATA_SHEET,
    "paper draft": artifacts.PAPER,
    "predictions": artifacts.PREDICTIONS,
    "scores": artifacts.SCORES,
    "scores by split": artifacts.SPLIT_SCORES,
    "scores by corpus": artifacts.CORPUS_SCORES,
    "comparisons": artifacts.COMPARISONS,
    "subgroups": artifacts.GROUP_SCORES,
    "input ablations": artifacts.CONTROLS,
    "robustness": artifacts.ROBUSTNESS,
    "probes": artifacts.PROBES,
    "lens model": artifacts.LENS,
    "importance of measures": artifacts.FEATURE_IMPORTANCE,
    "partial dependence": artifacts.PARTIAL_DEPENDENCE,
    "importance and marks of people": artifacts.CUE_SCORES,
    "layer weights": artifacts.LAYER_WEIGHTS,
}
_LONG = 20  # longer tables are folded


class ReportFigure(NamedTuple):
    """A figure of the report: its target group ("" for all groups), section, title, caption and PNG file."""

    targets: str
    section: str
    title: str
    caption: str
    file: Path


class PipelineRun(NamedTuple):
    """A run of the pipeline.

    provenance, data: contents of data/provenance.json and metrics/data.json. split: the scored split. parameters, shipped:
    the parameters of params.yaml and of params/demo.yaml. same_persons: a sentence on clips of different videos that show
    one person; empty if this was not checked. cost: the time and energy that the stages used; empty if not recorded.
    lengths: contents of metrics/lengths.json. cues: data/cue_scores.csv; None without marks of people.
    """

    provenance: Mapping[str, Any]
    data: Mapping[str, Any]
    split: str
    parameters: Mapping[str, Any]
    shipped: Mapping[str, Any]
    same_persons: str = ""
    cost: str = ""
    lengths: Mapping[str, Mapping[str, Mapping[str, float]]] = {}
    cues: pd.DataFrame | None = None

    @property
    def interval(self) -> float:
        """Return the expected fraction of labels inside the prediction intervals."""
        return float(self.provenance.get("interval", INTERVAL_LEVEL))

    @property
    def is_synthetic(self) -> bool:
        """Return whether a corpus is rendered, with planted labels."""
        return not {*SYNTHETIC}.isdisjoint(self.data["sources"])


def render_report(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    groups: pd.DataFrame,
    clips: pd.DataFrame,
    targets: Targets,
    figures: Sequence[ReportFigure],
    run: PipelineRun,
    dpi: int,
) -> str:
    """Return the report's HTML.

    scores, comparisons, groups, clips: tables of data/scores.csv, comparisons.csv, group_scores.csv and clips.csv. targets:
    the predicted groups. dpi: resolution of the figures in pixels per inch.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    predictors = [name for name in dict.fromkeys(scores["predictor"]) if name not in ("model", CEILING)]
    return environment.get_template("page.html").render(
        sections={
            name: title
            for name, title in SECTIONS.items()
            if name != "corpora" or any(figure.section == name for figure in figures)
        },
        run=run,
        groups={
            name: _describe_group(
                select_group(scores, name),
                select_group(comparisons, name),
                select_group(groups, name),
                clips,
                target_group,
                run if run.cues is None else run._replace(cues=select_group(run.cues, name)),
            )
            for name, target_group in targets.items()
        },
        figures=[_embed(figure, dpi) for figure in figures],
        setup=_describe_setup(run),
        changed=list_changes(run.parameters, run.shipped),
        files={title: os.path.relpath(path, artifacts.REPORT.parent) for title, path in _FILES.items()},
        predictors={words.name_predictor(name): words.describe_predictor(name) for name in predictors},
        rule=verdict.RULE,
        min_videos=MIN_VIDEOS,
        long=_LONG,
        lengths=list(list_lengths(run.lengths)),
        length_columns=lengths.COLUMNS.values(),
        length_note=lengths.NOTE,
        persons=words.NO_GROUPS if groups.empty else words.ABOUT_GROUPS,
        limits=_list_limits(run, targets),
    )


def _describe_group(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    groups: pd.DataFrame,
    clips: pd.DataFrame,
    target_group: TargetGroup,
    run: PipelineRun,
) -> dict[str, Any]:
    """Return the template's variables for a target group; the tables contain only rows of this group."""
    subsets: dict[str, dict[str, Any] | None] = {}
    titles = words.list_headline_subsets(scores) if words.are_all_unseen(scores) else words.SUBSETS
    for subset, title in titles.items():
        rows = scores[scores["subset"] == subset]
        if rows.empty:
            subsets[f"{title.capitalize()}: none"] = None
            continue
        title = f"{title.capitalize()} ({rows['clips'].iloc[0]} clips, {rows['videos'].iloc[0]} videos)"
        main, further = score_tables.list_score_tables(scores, comparisons, target_group, subset, run.interval)
        subsets[title] = {"main": main, "further": further, "folded": subset != "all"}
    notes = words.describe_clipped(scores, target_group), words.describe_weighting(scores), ceilings.explain(scores)
    return {
        "findings": verdict.find_results(scores, target_group, run.is_synthetic),
        "judged": verdict.select_judged(scores)[1],
        "headline": verdict.describe_headline(scores, comparisons, target_group),
        "leakage": verdict.describe_leakage(scores, target_group, run.data, run.split),
        "about": f"{', '.join(target_group.columns)}; scale {words.format_range(target_group)}."
        f" Accuracy is {words.name_accuracy(target_group)}."
        f" {' '.join(filter(None, notes))}".rstrip(),
        "labels": score_tables.list_label_tables(clips, target_group),
        "subsets": subsets,
        "persons": score_tables.list_group_tables(groups, target_group),
        "small": score_tables.describe_small_groups(groups),
        "cues": {} if run.cues is None else score_tables.list_cue_tables(run.cues),
    }


def _embed(figure: ReportFigure, dpi: int) -> dict[str, Any]:
    """Return a figure with its PNG file in base64 and its size in CSS pixels."""
    content = figure.file.read_bytes()
    width, height = (round(96 * pixels / dpi) for pixels in struct.unpack(">II", content[16:24]))  # PNG's header
    encoded = base64.b64encode(content).decode()
    return figure._asdict() | {"encoded": encoded, "width": width, "height": height}


def shrink_png(path: Path) -> None:
    """Rewrite a PNG file with a palette of 256 colours, which reduces its size to a third."""
    with Image.open(path) as image:
        palette = image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    palette.save(path, optimize=True)


def _describe_setup(run: PipelineRun) -> dict[str, str]:
    commit, data = run.provenance["commit"], run.data
    return {
        "Model": words.describe_encoders(run.parameters["model"]).replace("`", ""),
        "Data": f"{', '.join(data['sources'])}: {words.count_clips(data)}; {data['hours']:g} hours, split {data['split']}",
        "Scored clips": " ".join(words.describe_scored_clips(data, run.split)) or f"those of the {run.split} split",
        "Trained on": " and ".join(f"{count} {split} clips" for split, count in run.provenance["clips"].items()),
        "Commit": "unknown: trained without git" if commit is None else format_commit(commit),
        "Date of the newest input": describe_newest_input(run.provenance),
        "Hardware": run.provenance["hardware"],
        **({"Cost": run.cost} if run.cost else {}),
        "Seed": str(run.provenance["seed"]),
        "Packages": list_versions(run.provenance),
    }


def _list_limits(run: PipelineRun, targets: Targets) -> list[str]:
    notes = [
        note
        for target_group in targets.values()
        for note in (words.note_stability(run.data["sources"], target_group), words.note_emotions(target_group))
        if note
    ]
    return [*dict.fromkeys(notes), *_LIMITS]


def list_changes(parameters: Mapping[str, Any], shipped: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the parameters that differ from params/demo.yaml (`shipped`): name -> (value there, value), as text.

    The section `parallel` is left out, because it does not change results.
    """
    before, now = _flatten(shipped), _flatten(parameters)
    names = [name for name in dict.fromkeys([*before, *now]) if name.partition(".")[0] != "parallel"]
    pairs = {name: (before.get(name, "–"), now.get(name, "–")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": json.dumps(value)}
    return flat
