"""The model card: what the trained model is, what it was measured to do, and what it must not be used for."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.core.clips import SYNTHETIC
from lib.core.targets import TargetGroup, Targets
from lib.report import words
from lib.report.page import group_table
from lib.scoring.conformal import LEVEL
from lib.scoring.scores import MIN_VIDEOS

_FIV2 = (
    "The labels of First Impressions V2 are first impressions: workers of a crowdsourcing platform saw two clips of"
    " some 15 seconds at a time and said which person seemed friendlier, more organised, and so on; numbers between 0 and 1"
    " were fitted to these comparisons (Ponce-López et al. 2016, ChaLearn LAP 2016). They tell how strangers perceived a"
    " person, with the strangers' prejudices, not what the person is like."
)
_LIKE_FIV2 = (
    "The labels of the corpus `fiv2` are those of the annotation files in data/archives/, which are not FIV2's own: say here"
    " who rated what."
)
_DEMO = "The labels are the demo corpus's: planted in rendered clips (data/README.md). They say nothing about anybody."
_IMPRESSIONS = (
    "For research on how first impressions arise and how well models reproduce them. Not for judging a person, and for"
    " no decision about anybody, hiring least of all: the labels measure observers, the errors are large beside"
    " the differences between people"
)
_ANY = (
    "For research. Not for judging a person, and for no decision about anybody, hiring least of all: a label tells what"
    " those who gave it thought or felt, and nothing was measured on other clips than these"
)
_LAW = ", and in the European Union a system for recruitment is a high-risk one (Regulation 2024/1689, Annex III)."


def card(
    scores: pd.DataFrame,
    groups: pd.DataFrame,
    targets: Targets,
    split: str,
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    robustness: pd.DataFrame,
) -> str:
    """Return the card as Markdown; `scores` as in data/scores.csv, `groups` as in data/group_scores.csv, `robustness` as in
    data/robustness.csv, `targets` those predicted, `split` the one that was scored, `data` as in metrics/data.json, `model`
    the parameters' section."""
    sources = data["sources"]
    shared = ", ".join(f"{count} of the {name} videos" for name, count in data["videos_shared_with_training"].items())
    clips = ", ".join(f"{count} {name}" for name, count in data["clips"].items())
    stability = " ".join(filter(None, (words.stability(sources, group) for group in targets.values())))
    lines = [
        f"# Model card: {', '.join(targets)}, predicted from clips\n",
        f"{words.encoders(model)} Predicted are {'; '.join(_outputs(*one) for one in targets.items())}.\n",
        "## What the labels are\n",
        *(f"{_labels(source, data)}\n" for source in sources),
        *([f"{stability}\n"] if stability else []),
        "## Data\n",
        f"Split: {data['split']}. Clips: {clips}. Videos shared with training: {shared}. Where a clip's video is in"
        " training, a look-up that sees no pixel does well too; hence the rows apart. An unseen video is not an unseen"
        " person: nothing tells who is in another video.\n",
        "## What it was measured to do\n",
        f"On the {split} split, with 95 % intervals by bootstrap over videos, from {MIN_VIDEOS} videos on.\n",
    ]
    for name, group in targets.items():
        lines += _measured(name, group, scores[scores["targets"] == name], data["clips"][split], len(targets) > 1)
    lines.append("## Limits, in numbers\n")
    for name, group in targets.items():
        worse = robustness[robustness["targets"] == name]
        lines += [*_limits(name, group, scores[scores["targets"] == name], worse), ""]
    lines.append("## Groups of persons\n")
    lines.append(f"{words.NO_GROUPS if groups.empty else words.ABOUT_GROUPS}\n")
    for name, group in targets.items() if len(groups) else ():
        lines += _of_persons(name, group, groups[groups["targets"] == name])
    limits, *notes = cautions(sources, targets)
    lines += ["## What it is for, and what not\n", *(f"{note}\n" for note in notes), limits]
    return "\n".join(lines) + "\n"


def cautions(sources: Iterable[str], targets: Targets) -> list[str]:
    """Return what is to be read beside predictions of these targets by a model trained on these corpora: what it is for, and
    what not, then notes on targets."""
    limits = (_IMPRESSIONS if {*sources} <= {*SYNTHETIC, "fiv2"} else _ANY) + _LAW
    notes = (words.feelings(group) for group in targets.values())
    return [limits, *dict.fromkeys(note for note in notes if note)]


def _outputs(name: str, group: TargetGroup) -> str:
    bounds = {
        "sigmoid": words.scale(group),
        "linear": f"unbounded, where the labels are {words.scale(group)}",
        "softmax": "shares that add up to 1",
        "binary": "probabilities",
    }
    return f"{name}: {', '.join(group.columns)} ({bounds[group.head]})"


def _labels(source: str, data: Mapping[str, Any]) -> str:
    if source in SYNTHETIC:
        return _DEMO
    if source == "fiv2":
        return _FIV2 if "as distributed" in data.get("annotation_files", {}).values() else _LIKE_FIV2
    return (
        f"The labels of the corpus `{source}` are as its files give them: say here who rated what, and on which scale."
    )


def _measured(name: str, group: TargetGroup, scores: pd.DataFrame, clips: int, titled: bool) -> list[str]:
    columns = ["mean", *group.columns]
    lines = [f"### {name}\n"] if titled else []
    lines += [
        f"Accuracy ({words.accuracy(group)}). Scored are {scores['clips'].max()} of {clips} clips: those with the streams"
        " that the model needs and with a label.\n",
        "| clips | predictor | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    accuracy = scores[scores["score"] == "accuracy"]
    for (subset, predictor), rows in accuracy.groupby(["subset", "predictor"], sort=False):
        cells = [words.text(row, 4) for row in rows.itertuples()]
        clips_of = f"{words.SUBSETS[str(subset)]} ({rows['clips'].iloc[0]} clips, {rows['videos'].iloc[0]} videos)"
        lines.append(f"| {clips_of} | {predictor} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _limits(name: str, group: TargetGroup, scores: pd.DataFrame, robustness: pd.DataFrame) -> Iterator[str]:
    """Yield what the model can't do, a line each."""
    model = scores[scores["predictor"] == "model"].set_index(["subset", "score", "target"])
    means = scores[scores["target"] == "mean"].set_index(["subset", "score", "predictor"])["value"]

    def value(score: str, target: str = "mean", subset: str = "all") -> float:
        return float(model["value"].get((subset, score, target), np.nan))

    mae, of_mean = value("mae"), means["all", "mae", "mean_predictor"]
    yield f"- {name}: it errs by {mae:.3f} on average ({words.scale(group)}), the training mean by {of_mean:.3f}."
    blind = [target for target in group.columns if not value("r2", target) > 0]
    if blind:
        yield f"- It tells nothing (R² not above 0) of {', '.join(blind)}."
    yield (
        f"- It draws predictions together: their standard deviation is {value('std_ratio'):.2f} of the actual values';"
        f" regression to the mean {value('regression_to_mean'):.2f} (0: none)."
    )
    if np.isfinite(covered := value("coverage")):
        yield f"- Its {LEVEL:.0%} intervals hold {covered:.0%} of the labels."
    seen, unseen = (value("accuracy", subset=subset) for subset in ("seen_videos", "unseen_videos"))
    if np.isfinite(seen - unseen):
        yield f"- {words.accuracy(group)} is {seen:.3f} on videos that training has seen, {unseen:.3f} on others."
    losses = robustness[robustness["target"] == "mean"].dropna(subset="loss") if len(robustness) else robustness
    for row in losses.nlargest(1, "loss").itertuples() if len(losses) else ():
        yield f"- Worse faces cost up to {row.loss:.3f} ({row.corruption} at {row.strength:g}; not trained for it)."


def _of_persons(name: str, group: TargetGroup, groups: pd.DataFrame) -> list[str]:
    shown = words.group_scores(group)
    lines = [f"{name.capitalize()}: mean over {', '.join(group.columns)}, with 95 % intervals over videos.\n"]
    lines += ["| | group | " + " | ".join(shown.values()) + " |", "|---|---|" + "---|" * len(shown)]
    for kind, rows in groups.groupby("kind", sort=False):
        table = pd.DataFrame({which: group_table(rows, *which)["mean"] for which in shown})
        lines += [f"| {kind} | {group} | " + " | ".join(cells) + " |" for group, cells in table.iterrows()]
    return [*lines, ""]
