"""Summarise a run: sentences that compare the model with its baselines, and one line per target."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from lib.core.artifacts import SAME_PERSON
from lib.core.targets import TargetGroup
from lib.report import ceilings, words
from lib.scoring import same_person
from lib.scoring.tables import rank_baselines

LEVEL = 0.05
"""Significance level of the headline's tests."""
_PREDICTED, _UNCERTAIN, _NOT = "predicted", "uncertain", "not predicted"
RULE = (
    f"{_PREDICTED.capitalize()}: the 95 % interval of R² lies above 0. {_UNCERTAIN.capitalize()}: R² is above 0, but its"
    f" interval contains 0 or there are too few videos for an interval. {_NOT.capitalize()}: R² is not above 0."
)


class Finding(NamedTuple):
    """The line of a target.

    result: predicted, uncertain or not predicted. cause: the planted signal of the label, empty if unknown. r2, accuracy:
    scores of the model with intervals. baseline, baseline_name: accuracy and name of the best baseline. ceiling: of R²,
    empty if the reliability of the labels is unknown.
    """

    target: str
    result: str
    cause: str
    r2: str
    accuracy: str
    baseline: str
    baseline_name: str
    ceiling: str = ""


def select_group(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a target group."""
    return table[table["targets"] == name]


def select_judged(scores: pd.DataFrame) -> tuple[str, str]:
    """Return the subset on which targets are judged, and its title: unseen videos, or all clips if no video is unseen."""
    titles = words.list_headline_subsets(scores)
    subset = "unseen_videos" if "unseen_videos" in titles and "unseen_videos" in set(scores["subset"]) else "all"
    return subset, titles[subset]


def find_results(scores: pd.DataFrame, group: TargetGroup, synthetic: bool) -> list[Finding]:
    """Return a line per target for the clips of `select_judged`, given a target group's rows of data/scores.csv.

    synthetic: whether labels are planted, so that their causes are known. The best baseline is the most accurate one that
    does not use the name of the clip's video.
    """
    findings = []
    subset, _ = select_judged(scores)
    rows = scores[scores["subset"] == subset]
    for target in group.columns:
        by_score = rows[rows["target"] == target].set_index(["score", "predictor"])
        r2, accuracy = by_score.loc[("r2", "model")], by_score.loc[("accuracy", "model")]
        ranked = rank_baselines(by_score.loc["accuracy"]["value"])
        best, name = ("–", "") if ranked.empty else (f"{ranked.iloc[0]:.3f}", words.name_predictor(ranked.index[0]))
        cause = words.find_cause(target) if synthetic else ""
        bound = ceilings.find(scores, "r2", target, subset)
        findings.append(
            Finding(
                target,
                _judge(r2),
                cause,
                words.format_value(r2, 2),
                words.format_value(accuracy),
                best,
                baseline_name=name,
                ceiling=f"{bound:.2f}" if pd.notna(bound) else "",
            )
        )
    return findings


def _judge(r2: Any) -> str:
    """Return whether a target is predicted, given the value and the interval of R²."""
    if not r2["value"] > 0:
        return _NOT
    return _PREDICTED if r2["low"] > 0 else _UNCERTAIN


def describe_headline(scores: pd.DataFrame, comparisons: pd.DataFrame, group: TargetGroup) -> list[str]:
    """Return sentences that compare the model with its baselines, on all clips and on unseen videos.

    scores, comparisons: the target group's rows of data/scores.csv and data/comparisons.csv.
    """
    sentences = []
    for subset, title in words.list_headline_subsets(scores).items():
        rows = scores[(scores["subset"] == subset) & (scores["target"] == "mean")]
        if rows.empty:
            sentences.append("Every video has clips in training, so accuracy on unseen videos was not measured.")
            continue
        model = rows[rows["predictor"] == "model"].set_index("score")
        values = rows[rows["score"] == "accuracy"].set_index("predictor")["value"]
        compared = comparisons[(comparisons["subset"] == subset) & (comparisons["target"] == "mean")]
        verdicts, is_tested = _compare(values, compared.set_index("predictor"))
        few = "" if is_tested else ": too few to test"
        clips, videos = rows["clips"].iloc[0], rows["videos"].iloc[0]
        name = f" ({words.name_accuracy(group)})" if subset == "all" else ""
        others = [
            f"{label} {words.format_value(model.loc[score])}"
            for score, (label, _) in words.list_headline_scores(group).items()
            if score != "accuracy"
        ]
        bounds = ceilings.describe(scores, subset=subset)
        sentences.append(
            f"On {title} ({clips} clips, {videos} videos{few}) accuracy{name} is"
            f" {words.format_value(model.loc['accuracy'])}; {verdicts}. The model reaches {' and '.join(others)}"
            f"{f' ({bounds} by the reliability of the labels)' if bounds else ''}."
        )
    return sentences


def _compare(values: pd.Series, compared: pd.DataFrame) -> tuple[str, bool]:
    """Return a text that compares the model's accuracy with each headline baseline, and whether this was tested."""
    verdicts: dict[str, list[str]] = {}
    names = [name for name in words.select_headline_predictors(values.index) if name != "model"]
    is_tested = bool(compared.loc[names, "p_holm"].notna().any())
    for name in names:
        row = compared.loc[name]
        p = f", {words.format_p(row)}" if pd.notna(row["p_holm"]) else ""
        is_alike = f"{values[name]:.3f}" == f"{values['model']:.3f}"
        difference = f", difference {row['difference']:+.4f}".replace("-", "−") if is_alike else ""
        verdicts.setdefault(_describe(row), []).append(f"{_article(name)} ({values[name]:.3f}{difference}{p})")
    if is_tested:
        return "; ".join(f"{verdict} {join(names)}" for verdict, names in verdicts.items()), True
    return join([f"{_article(name)} reaches {values[name]:.3f}" for name in names]), False


def _article(name: str) -> str:
    short = words.name_predictor(name)
    return f"the {short}" if name in ("mean_predictor", "video_lookup") else short


def _describe(row: pd.Series) -> str:
    if not row["p_holm"] < LEVEL:
        return "it does not differ significantly from that of"
    return (
        "it is significantly higher than that of" if row["difference"] > 0 else "it is significantly lower than that of"
    )


def join(names: Sequence[str]) -> str:
    """Return a list as text: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def describe_leakage(scores: pd.DataFrame, group: TargetGroup, data: Mapping[str, Any], split: str) -> str:
    """Return sentences with the number of scored videos that also have training clips, and the gain in accuracy on them: of
    the video look-up, which uses no image or audio, and of the model."""
    shared, videos = data["videos_shared_with_training"].get(split, 0), data["videos"][split]
    text = f"{shared} of the {videos} {split} videos also have clips in training."
    means = scores[(scores["target"] == "mean") & (scores["score"] == "accuracy")]
    values = means.set_index(["subset", "predictor"])["value"]
    if ("seen_videos", "model") not in values.index:
        return text
    gain = values["seen_videos", "video_lookup"] - values["seen_videos", "mean_predictor"]
    signed = f"{gain:+.3f}".replace("-", "−")
    text += f" On their clips the video look-up gains {signed} in {words.name_accuracy(group)} over the training mean"
    if ("unseen_videos", "model") not in values.index:
        return f"{text}; there are no clips of other videos."
    seen_accuracy, unseen_accuracy = values["seen_videos", "model"], values["unseen_videos", "model"]
    return f"{text}; the model reaches {seen_accuracy:.3f} there and {unseen_accuracy:.3f} on clips of other videos."


def describe_same_persons(
    pairs: pd.DataFrame, parameters: Mapping[str, Any], data: Mapping[str, Any], split: str
) -> str:
    """Return sentences on pairs of clips that probably show one person, given data/same_person.csv, params.yaml and
    metrics/data.json; empty if persons were not compared."""
    section = parameters.get("embeddings", {})
    if not section.get("enabled") or section.get("network") != same_person.NETWORK:
        return ""
    limit = f"a cosine similarity of {same_person.PROBABLE} or more (SFace), the median for clips of one video"
    probable = pairs[pairs["cosine"] >= same_person.PROBABLE]
    if probable.empty:
        return f"No pair of clips of different videos and splits has {limit}."
    scored = probable[(probable["split"] == split) & (probable["other_split"] == "training")]
    first = probable.iloc[0]
    count = f"{len(probable)} pairs" if len(pairs) < same_person.MAX_PAIRS else f"At least {len(probable)} pairs"
    return (
        f"Clips that may show one person: {count} of clips of different videos and splits have {limit}."
        f" {scored['clip'].nunique()} of the {data['clips'][split]} {split} clips are in such a pair with a training clip."
        f" Most similar: {first['clip']} and {first['other_clip']} ({first['cosine']:.2f}). Look at the pairs in"
        f" {SAME_PERSON}. In a table of your own clips, a column person keeps each person in one split."
    )
