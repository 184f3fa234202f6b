"""The model card: what the trained model is, what it was measured to do, and what it must not be used for."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lib.report.page import ABOUT_GROUPS, GROUP_SCORES, NO_GROUPS, group_table, text
from lib.scoring.scores import COLUMNS, MIN_VIDEOS

_FIV2 = (
    "The labels of First Impressions V2 are first impressions: workers of a crowdsourcing platform saw two clips of"
    " some 15 seconds at a time and said which person seemed friendlier, more organised, and so on; scores between 0 and 1"
    " were fitted to these comparisons (Ponce-López et al. 2016, ChaLearn LAP 2016). They tell how strangers perceived a"
    " person, with the strangers' prejudices, not what the person is like. The score called neuroticism correlates"
    " positively with the other four: it behaves as emotional stability."
)
_DEMO = "The labels are the demo corpus's: planted in rendered clips (data/README.md). They say nothing about anybody."
_OWN = (
    "The labels are those of the annotation files in data/archives/, which are not FIV2's own: say here who rated what."
)
_GROUPS = {"all": "all", "seen_videos": "video seen in training", "unseen_videos": "video unseen in training"}


def card(
    scores: pd.DataFrame, groups: pd.DataFrame, split: str, data: Mapping[str, Any], model: Mapping[str, Any]
) -> str:
    """Return the card as Markdown; `scores` as in data/scores.csv, `groups` as in data/group_scores.csv, `split` the one
    that was scored, `data` as in metrics/data.json, `model` the parameters' section."""
    as_distributed = "as distributed" in data.get("annotation_files", {}).values()
    labels = _DEMO if data["source"] == "demo" else _FIV2 if as_distributed else _OWN
    shared = ", ".join(f"{count} of the {name} videos" for name, count in data["videos_shared_with_training"].items())
    clips = ", ".join(f"{count} {name}" for name, count in data["clips"].items())
    sees = {"static": "aligned faces", "dynamic": "TV-L1 optical flow"}
    streams = " and ".join(
        f"a {name} stream over {sees[name]} (`{model[name]['backbone']}`, {model[name]['weights'] or 'from scratch'})"
        for name in ([model["fusion"]] if model["fusion"] in sees else sees)
    )
    output = f"{'six' if model['interview'] else 'five'} scores" + (
        " in [0, 1]" if model["output"] == "sigmoid" else ""
    )
    lines = [
        "# Model card: apparent personality from talking-head clips\n",
        f"Fusion `{model['fusion']}`: {streams}; {output}.\n",
        "## What the labels are\n",
        labels + "\n",
        "## Data\n",
        f"Split: {data['split']}. Clips: {clips}. Videos shared with training: {shared}. Where a clip's video is in"
        " training, a look-up that sees no pixel does well too; hence the rows apart. An unseen video is not an unseen"
        " person: nothing tells who is in another video.\n",
        "## What it was measured to do\n",
        f"Accuracy (1 - MAE) on the {split} split, with its 95 % interval by bootstrap over videos, from {MIN_VIDEOS} videos"
        f" on. Scored are the {scores['clips'].max()} of {data['clips'][split]} clips whose face could be followed.\n",
        "| clips | predictor | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    accuracy = scores[scores["score"] == "accuracy"]
    for (group, predictor), rows in accuracy.groupby(["group", "predictor"], sort=False):
        cells = [text(row, 4) for row in rows.itertuples()]
        clips_of = f"{_GROUPS[str(group)]} ({rows['clips'].iloc[0]} clips, {rows['videos'].iloc[0]} videos)"
        lines.append(f"| {clips_of} | {predictor} | " + " | ".join(cells) + " |")
    lines += [
        "\n## Groups of persons\n",
        *_of_groups(groups),
        "## What it is for, and what not\n",
        "For research on how first impressions arise and how well models reproduce them. Not for judging a person, and for"
        " no decision about anybody, hiring least of all: the labels measure observers, the errors above are large beside"
        " the differences between people, and in the European Union a system for recruitment is a high-risk one (Regulation"
        " 2024/1689, Annex III).",
    ]
    return "\n".join(lines) + "\n"


def _of_groups(groups: pd.DataFrame) -> list[str]:
    if groups.empty:
        return [NO_GROUPS + "\n"]
    lines = [f"Mean over the traits, with 95 % intervals over videos. {ABOUT_GROUPS}\n"]
    lines += ["| | group | " + " | ".join(GROUP_SCORES.values()) + " |", "|---|---|" + "---|" * len(GROUP_SCORES)]
    for kind, rows in groups.groupby("kind", sort=False):
        table = pd.DataFrame({which: group_table(rows, *which)["mean"] for which in GROUP_SCORES})
        lines += [f"| {kind} | {group} | " + " | ".join(cells) + " |" for group, cells in table.iterrows()]
    return [*lines, ""]
