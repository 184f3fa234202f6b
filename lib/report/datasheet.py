"""The data sheet of the corpora in use (Gebru et al. 2021, Datasheets for datasets): descriptions and counts."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from lib.core.clips import SPLITS, SYNTHETIC, describe_left_out, describe_origins
from lib.core.targets import Targets
from lib.report import words
from lib.report.lengths import tabulate_lengths
from lib.report.page import Run
from lib.scoring.outliers import FAR, MOST, WIDEST
from lib.scoring.stacking import LIMIT


class Corpus(NamedTuple):
    """The description of a corpus: its purpose, its people, how it was collected and labelled, and where to obtain it."""

    motivation: str
    people: str
    collection: str
    distribution: str


_KNOWN = {
    "fiv2": Corpus(
        "For the ChaLearn challenges on first impressions: to predict the apparent Big Five of a person who speaks to a"
        " camera (Ponce-López et al. 2016; Escalante et al. 2020).",
        "People who speak to a camera in YouTube videos, in English. They did not speak for this purpose, and the"
        " distribution does not document their consent. Faces and voices identify them.",
        "Clips of about 15 seconds were cut from the videos. Workers of Amazon Mechanical Turk compared pairs of clips trait"
        " by trait. Numbers between 0 and 1 were fitted to these comparisons. The distribution does not say who judged which"
        " clip.",
        "By ChaLearn after registration; the test videos are encrypted. ChaLearn's terms apply. This project distributes"
        " none of it.",
    ),
    "mosei": Corpus(
        "For research on sentiment and emotion in language, voice and face together (Zadeh et al. 2018).",
        "Speakers of monologues on YouTube, in English. They did not speak for this purpose. Faces and voices identify"
        " them.",
        "Sentences were cut from the videos. Three workers of Amazon Mechanical Turk rated the sentiment of each and the"
        " intensity of six emotions.",
        "Labels by Carnegie Mellon University. The videos are on YouTube, and their uploaders may delete them.",
    ),
    "vlogs": Corpus(
        "For research on how viewers perceive the personality of vloggers (Biel and Gatica-Perez 2013).",
        "People who talk to a camera in YouTube videos, in English, one video each. They did not speak for this purpose. The"
        " distribution has no video; transcripts are anonymised.",
        "Five workers of Amazon Mechanical Turk watched each vlog and rated the Big Five from 1 to 7. Scores are means over"
        " raters. Reliability, ICC(1,k): extraversion .76, agreeableness .64, conscientiousness .45, emotional stability"
        " .42, openness .47. R² of a perfect model of what raters agree on is at most this number.",
        "By Idiap Research Institute, for research. Features: Biel and Gatica-Perez 2013; transcripts: Biel et al. 2013."
        " This project distributes none of it.",
    ),
    "demo": Corpus(
        "To try and test this project. Its labels are planted, so the truth is known.",
        "One person: all clips are rendered from a photograph of Eileen Collins by NASA, in the public domain.",
        "Rendered by `lib/sources/demo`. Labels are factors of the rendering plus noise (data/README.md).",
        "Rendered from a seed by whoever runs the project.",
    ),
}
_KNOWN |= dict.fromkeys(SYNTHETIC, _KNOWN["demo"])
_OWN = Corpus(
    "*To fill in: for which purpose, by whom and with which funding the clips were collected.*",
    "*To fill in: the people in the clips, how they gave consent, what they agreed to, and how they can withdraw.*",
    "*To fill in: how the clips were recorded or chosen, who rated them, what raters were asked, and how well they agreed.*",
    "*To fill in: under which terms others may have the clips and the ratings, and who maintains them.*",
)
_ANSWERS = (
    ("Motivation", "motivation"),
    ("People", "people"),
    ("Collection and labelling", "collection"),
    ("Distribution and maintenance", "distribution"),
)
_USES = (
    "Research on how people are perceived. Do not use it to judge people or to decide about them. A corpus of one language,"
    " one platform and one group of raters says nothing about others. People who are rare in it are predicted worse."
)


def make_datasheet(
    clips: pd.DataFrame,
    groups: pd.DataFrame,
    outliers: pd.DataFrame,
    targets: Targets,
    run: Run,
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
        corpus = _KNOWN.get(source, _OWN)
        lines += [f"## {source}\n", *(f"**{title}.** {getattr(corpus, field)}\n" for title, field in _ANSWERS)]
        of_source = clips[clips["corpus"] == source]
        lines.append(f"**Composition.** {_describe_composition(of_source, data['corpora'][source])}\n")
    for name, group in targets.items():
        lines.append(f"**Labels: {name}.**\n\n{_tabulate_labels(clips, list(group.columns))}\n")
    lines += ["## Outliers\n", _tabulate_outliers(outliers) + "\n"]
    notes = dict.fromkeys(words.note_stability(data["sources"], group) for group in targets.values())
    lines += ["## Splits\n", *_tabulate_splits(data), *(f"{note}\n" for note in notes if note)]
    lines += ["## Lengths\n", tabulate_lengths(run.lengths) + "\n"]
    lines += ["## Subgroups\n", _describe_groups(groups) + "\n", "## Preprocessing\n"]
    lines.append(
        "Every clip is opened and checked (docs/reference/stages.md). Raw files stay in data/raw/. Streams extracted from"
        f" them: {', '.join(streams)}. Each is a folder of data/ whose stream.json describes it.\n"
    )
    lines += ["## Uses\n", _USES + "\n"]
    return "\n".join(lines)


def _describe_composition(clips: pd.DataFrame, counted: Mapping[str, Any]) -> str:
    usable = clips[clips["reason"] == ""]
    rejected = ", ".join(f"{reason}: {count}" for reason, count in counted["refused"].items()) or "none"
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
        " Clips of one video are not independent. The corpus does not say which videos show the same person."
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


def _describe_groups(groups: pd.DataFrame) -> str:
    if groups.empty:
        return words.NO_GROUPS
    rows = groups[(groups["what"] == "value") & (groups["predictor"] == "model")].drop_duplicates(["kind", "group"])
    counts = (f"{row.kind} {row.group}: {row.clips} clips of {row.videos} videos" for row in rows.itertuples())
    return "Scored clips: " + "; ".join(counts) + ". Annotators judged the groups by sight."
