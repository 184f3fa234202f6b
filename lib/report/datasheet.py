"""The data sheet of the corpora in use (Gebru et al. 2021, Datasheets for datasets): what is known and counted."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from lib.core.clips import SPLITS, SYNTHETIC
from lib.core.targets import Targets
from lib.report import words


class Corpus(NamedTuple):
    """What is known of a corpus beside what was counted: why it was made, of whom, how collected and labelled, and where it
    is to be had."""

    motivation: str
    people: str
    collection: str
    distribution: str


_KNOWN = {
    "fiv2": Corpus(
        "For the ChaLearn challenges on first impressions: predicting the apparent Big Five of a person who speaks to a"
        " camera (Ponce-López et al. 2016; Escalante et al. 2020).",
        "People who speak to a camera in YouTube videos, in English. They did not speak for this purpose, and nothing in the"
        " distribution tells whether they agreed to it; faces and voices identify them.",
        "Clips of some 15 seconds were cut from the videos. Workers of Amazon Mechanical Turk compared pairs of clips trait"
        " by trait; numbers between 0 and 1 were fitted to these comparisons. Nothing tells who judged which clip.",
        "By ChaLearn after registration, the test videos encrypted. Its terms hold; this project passes nothing of it on.",
    ),
    "mosei": Corpus(
        "For research on sentiment and emotion in language, voice and face together (Zadeh et al. 2018).",
        "Speakers of monologues on YouTube, in English. They did not speak for this purpose; faces and voices identify"
        " them.",
        "Sentences were cut from the videos. Three workers of Amazon Mechanical Turk gave each its sentiment and the"
        " intensity of six emotions.",
        "Labels by Carnegie Mellon University; the videos are YouTube's, and their uploaders may take them back.",
    ),
    "demo": Corpus(
        "To try and test this project: its labels are planted, so that the truth is known.",
        "Nobody but one: all clips are rendered from a photograph of Eileen Collins by NASA, in the public domain.",
        "Rendered by `lib/sources/demo`; labels are factors of the rendering and noise (data/README.md).",
        "Made anew from its seed by whoever runs the project.",
    ),
}
_KNOWN |= dict.fromkeys(SYNTHETIC, _KNOWN["demo"])
_OWN = Corpus(
    "Say here for which purpose, by whom and with whose money the clips were collected.",
    "Say here who is seen and heard, how they were asked, what they agreed to, and how they can take it back.",
    "Say here how the clips were recorded or chosen, who rated them, how they were asked, and how well raters agreed.",
    "Say here under which terms others may have the clips and the ratings, and who maintains them.",
)
_ANSWERS = (
    ("Motivation", "motivation"),
    ("People", "people"),
    ("Collection and labelling", "collection"),
    ("Distribution and maintenance", "distribution"),
)
_USES = (
    "Research on how people are perceived. Not for judging anybody, and for no decision about a person. A corpus of one"
    " language, one platform and one crowd of raters says nothing about others; who is rare in it is predicted worse."
)


def datasheet(
    clips: pd.DataFrame, groups: pd.DataFrame, targets: Targets, data: Mapping[str, Any], streams: list[str]
) -> str:
    """Return the sheet as Markdown; `clips` as in data/clips.csv, `groups` as in data/group_scores.csv, `targets` those
    predicted, `data` as in metrics/data.json, `streams` those that are on."""
    lines = [f"# Data sheet: {', '.join(data['sources'])}\n"]
    lines.append(
        "After Gebru et al. 2021. Numbers are counted by the pipeline; what they can't tell is written by hand.\n"
    )
    for source in data["sources"]:
        known = _KNOWN.get(source, _OWN)
        lines += [f"## {source}\n", *(f"**{title}.** {getattr(known, field)}\n" for title, field in _ANSWERS)]
        lines.append(f"**Composition.** {_composition(clips[clips['corpus'] == source], data['corpora'][source])}\n")
    lines += [f"**Labels: {name}.**\n\n{_labels(clips, list(group.columns))}\n" for name, group in targets.items()]
    stability = (words.stability(data["sources"], group) for group in targets.values())
    lines += ["## Splits\n", *_splits(data), *(f"{one}\n" for one in filter(None, stability))]
    lines.append("## Groups of persons\n")
    lines.append(_groups(groups) + "\n")
    lines.append("## Preprocessing\n")
    lines.append(
        f"Every clip is opened and checked (docs/reference/stages.md); the raw files stay in data/raw/. Made of them:"
        f" {', '.join(streams)}, each a folder of data/ with stream.json, which says how.\n"
    )
    lines += ["## Uses\n", _USES + "\n"]
    return "\n".join(lines)


def _composition(clips: pd.DataFrame, counted: Mapping[str, Any]) -> str:
    used = clips[clips["reason"] == ""]
    refused = ", ".join(f"{reason}: {count}" for reason, count in counted["refused"].items()) or "none"
    seconds, per_video = used["duration"], used["video"].value_counts()
    return (
        f"{counted['annotated']} annotated clips, {counted['files']} files, {counted['usable']} usable; refused: {refused}."
        f" The usable ones come from {len(per_video)} videos, up to {per_video.max()} from one; they take"
        f" {seconds.min():.1f} to {seconds.max():.1f} s, {seconds.sum() / 3600:.2f} hours in all; {used['audio'].mean():.0%}"
        " have sound. Clips of a video are not independent, and nothing tells who is in another video."
    )


def _labels(clips: pd.DataFrame, columns: list[str]) -> str:
    usable = clips[clips["reason"] == ""]
    rows = ["| target | known | mean | standard deviation | lowest | highest |", "|---|---|---|---|---|---|"]
    for column in columns:
        of = usable[column].dropna()
        rows.append(f"| {column} | {len(of)} | {of.mean():.3f} | {of.std():.3f} | {of.min():.3f} | {of.max():.3f} |")
    return "\n".join(rows)


def _splits(data: Mapping[str, Any]) -> Iterator[str]:
    yield f"Dealt out as `download.split: {data['split']}`.\n"
    yield "| split | clips | videos | of them with clips in training |\n|---|---|---|---|"
    for split in SPLITS:
        shared = data["videos_shared_with_training"].get(split, "–")
        yield f"| {split} | {data['clips'][split]} | {data['videos'][split]} | {shared} |"
    yield ""


def _groups(groups: pd.DataFrame) -> str:
    if groups.empty:
        return words.NO_GROUPS
    rows = groups[(groups["what"] == "value") & (groups["predictor"] == "model")].drop_duplicates(["kind", "group"])
    said = (f"{row.kind} {row.group}: {row.clips} clips of {row.videos} videos" for row in rows.itertuples())
    return "Of the scored clips " + "; ".join(said) + ". Those who annotated them judged by sight."
