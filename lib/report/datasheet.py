"""The data sheet of the corpora in use (Gebru et al. 2021, Datasheets for datasets): descriptions and counts."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lib.core.clips import SPLITS, describe_left_out, describe_origins
from lib.core.targets import Targets
from lib.regression.ridge import LIMIT
from lib.report import words
from lib.report.corpora import BIASES, USES, find_corpus
from lib.report.lengths import tabulate_lengths
from lib.report.page import PipelineRun
from lib.scoring.outliers import FAR, MOST, WIDEST

_ANSWERS = (
    ("Motivation", "motivation"),
    ("People", "people"),
    ("Collection and labelling", "collection"),
    ("Distribution and maintenance", "distribution"),
)
LIMITS = "Clips of one video are not independent. The corpus does not say which videos show the same person."


def make_datasheet(
    clips: pd.DataFrame,
    groups: pd.DataFrame,
    outliers: pd.DataFrame,
    targets: Targets,
    run: PipelineRun,
    streams: list[str],
) -> str:
    """Return the sheet as Markdown.

    clips, groups, outliers: tables of data/clips.csv, data/group_scores.csv and data/outliers.csv.
    targets: the predicted groups. streams: the enabled streams.
    """
    data = run.data
    lines = [
        f"# Data sheet: {', '.join(data['sources'])}\n",
        "After Gebru et al. 2021. The pipeline counted the numbers; people wrote the rest.\n",
    ]
    for source in data["sources"]:
        corpus = find_corpus(source)
        lines += [f"## {source}\n", *(f"**{title}.** {getattr(corpus, field)}\n" for title, field in _ANSWERS)]
        of_source = clips[clips["corpus"] == source]
        lines.append(f"**Composition.** {describe_composition(of_source, data['corpora'][source])}\n")
    for name, target_group in targets.items():
        lines.append(f"**Labels: {name}.**\n\n{_tabulate_labels(clips, list(target_group.columns))}\n")
    lines += ["## Outliers\n", _tabulate_outliers(outliers) + "\n"]
    notes = dict.fromkeys(words.note_stability(data["sources"], target_group) for target_group in targets.values())
    lines += ["## Splits\n", *_tabulate_splits(data), *(f"{note}\n" for note in notes if note)]
    lines += ["## Lengths\n", tabulate_lengths(run.lengths) + "\n"]
    lines += ["## Subgroups\n", describe_groups(groups) + "\n", "## Preprocessing\n"]
    lines.append(f"{describe_preprocessing(streams)}\n")
    lines += ["## Uses\n", f"{USES} {BIASES}\n"]
    return "\n".join(lines)


def describe_composition(clips: pd.DataFrame, counted: Mapping[str, Any]) -> str:
    """Return the numbers of clips and videos of a corpus, their lengths, and why clips were rejected.

    clips: the corpus' rows of data/clips.csv. counted: its entry under `corpora` of metrics/data.json.
    """
    usable = clips[clips["reason"] == ""]
    rejected = ", ".join(f"{reason}: {count}" for reason, count in counted["rejected"].items()) or "none"
    text = (
        f"{counted['annotated']} annotated clips, {counted['files']} files, {counted['usable']} usable; rejected:"
        f" {rejected}."
    )
    if usable.empty:
        return text
    per_video, shortest, longest = usable["video"].value_counts(), usable["duration"].min(), usable["duration"].max()
    lasts = f"{shortest:.1f}" if f"{shortest:.1f}" == f"{longest:.1f}" else f"{shortest:.1f} to {longest:.1f}"
    videos = (
        f" A clip lasts {lasts} s; all together last {usable['duration'].sum() / 3600:.2f} hours."
        f" {usable['audio'].mean():.0%} have audio."
        if usable["duration"].notna().any()
        else " No video was read."
    )
    return (
        f"{text} The usable clips come from {len(per_video)} videos, with up to {per_video.max()} clips each.{videos}"
        f" {LIMITS}"
    )


def describe_preprocessing(streams: list[str]) -> str:
    """Return how the pipeline prepares clips. streams: the enabled streams."""
    return (
        "Every clip is opened and checked (docs/reference/stages.md). Raw files stay in data/raw/. Streams extracted from"
        f" them: {', '.join(streams)}. Each is a folder of data/ whose stream.json describes it."
    )


def _tabulate_labels(clips: pd.DataFrame, columns: list[str]) -> str:
    usable = clips[clips["reason"] == ""]
    lines = ["| target | known | mean | standard deviation | lowest | highest |", "|---|---|---|---|---|---|"]
    for column in columns:
        labels = usable[column].dropna()
        numbers = (labels.mean(), labels.std(), labels.min(), labels.max())
        lines.append(f"| {column} | {len(labels)} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    return "\n".join(lines)


def _tabulate_outliers(outliers: pd.DataFrame) -> str:
    rule = f"{FAR:g} or more standard deviations from the mean over training clips"
    if outliers.empty:
        return f"No label and no feature lies {rule}."
    lines = [
        f"Labels and features that lie {rule}. For each stream up to {MOST} clips are listed, each with its furthest"
        f" value; vectors of more than {WIDEST} numbers are left out. Ridge clips inputs to {LIMIT:g} standard"
        " deviations.\n",
        "| clip | split | value of | value | deviations |\n|---|---|---|---|---|",
    ]
    for row in outliers.itertuples():
        name = f"label {row.column}" if row.kind == "label" else f"{row.name}, feature {row.column}"
        lines.append(f"| {row.clip} | {row.split or 'none'} | {name} | {row.value:.6g} | {row.deviations:.1f} |")
    return "\n".join(lines)


def _tabulate_splits(data: Mapping[str, Any]) -> Iterator[str]:
    yield f"Split by `download.split: {data['split']}`.\n"
    yield "| split | clips | videos | videos with clips in training |\n|---|---|---|---|"
    for split in SPLITS:
        shared = data["videos_shared_with_training"].get(split, "–")
        yield f"| {split} | {data['clips'][split]} | {data['videos'][split]} | {shared} |"
    yield ""
    yield from (f"{split}: {origins}.\n" for split in SPLITS if (origins := describe_origins(data, split)))
    if left_out := describe_left_out(data):
        yield f"{left_out}\n"


def describe_groups(groups: pd.DataFrame) -> str:
    """Return the numbers of scored clips of each group of persons. groups: table of data/group_scores.csv."""
    if groups.empty:
        return words.NO_GROUPS
    rows = groups[(groups["what"] == "value") & (groups["predictor"] == "model")].drop_duplicates(["kind", "group"])
    counts = (f"{row.kind} {row.group}: {row.clips} clips of {row.videos} videos" for row in rows.itertuples())
    return "Scored clips: " + "; ".join(counts) + ". Annotators judged the groups by sight."
