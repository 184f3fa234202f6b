"""The model card (Mitchell et al. 2019): a model's description, intended uses, scores with intervals, and limits."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.core.clips import SYNTHETIC
from lib.core.targets import TargetGroup, Targets
from lib.report import ceilings, score_tables, words
from lib.report.page import PipelineRun
from lib.report.provenance import format_commit
from lib.report.verdict import describe_leakage, join, select_group
from lib.scoring.bootstrap import MIN_VIDEOS
from lib.scoring.ceilings import CEILING
from lib.scoring.stacked_baselines import STACKED_RIDGE_LOOKUP

_FIV2 = (
    "First Impressions V2 has first impressions as labels. Workers of a crowdsourcing platform saw two clips of about 15"
    " seconds and said which person seemed friendlier, more organised, and so on. Numbers between 0 and 1 were fitted to"
    " these comparisons (Ponce-López et al. 2016, ChaLearn LAP 2016). They say how strangers perceived a person, with the"
    " strangers' prejudices, not what the person is like."
)
_LIKE_FIV2 = (
    "The labels of the corpus `fiv2` come from annotation files in data/archives/ that differ from FIV2's own. *To fill in:"
    " who rated what.*"
)
_VLOGS = (
    "The vlogs (YouTube Personality) have impressions as labels. Five workers of a crowdsourcing platform watched each vlog"
    " and rated the Big Five from 1 to 7 (Biel and Gatica-Perez 2013). Means over raters say how strangers perceived a"
    " person, not what the person is like."
)
_DEMO = "The demo corpus has planted labels in rendered clips (data/README.md). They say nothing about anybody."
_USERS = (
    "researchers who study how first impressions arise, how well models reproduce them, and which parts of a clip they"
    " depend on."
)
_IMPRESSIONS = (
    "Do not use it to judge people, least of all in hiring. Labels are strangers' impressions and errors are large."
    " (EU: recruitment systems are high-risk, Regulation 2024/1689, Annex III.)"
)
_ANY = (
    "Do not use it to judge people, least of all in hiring. Labels are what the raters thought or felt, and errors on other"
    " clips are unknown. (EU: recruitment systems are high-risk, Regulation 2024/1689, Annex III.)"
)


def make_card(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    groups: pd.DataFrame,
    robustness: pd.DataFrame,
    targets: Targets,
    run: PipelineRun,
) -> str:
    """Return the card as Markdown, without its header.

    scores, comparisons, groups, robustness: tables of data/scores.csv, comparisons.csv, group_scores.csv and robustness.csv.
    targets: the predicted groups.
    """
    data = run.data
    limits, *notes = list_cautions(data["sources"], targets)
    lines = [
        f"# Model card: {', '.join(targets)} from video clips\n",
        "## Model\n",
        *_describe_model(targets, run),
        "## Intended use\n",
        f"Intended users: {_USERS}\n",
        f"{limits}\n",
        *(f"{note}\n" for note in notes),
        "## Labels\n",
        *(f"{describe_labels(source, data)}\n" for source in data["sources"]),
        *_note_stability(data["sources"], targets),
        "## Data\n",
        f"Corpora: {', '.join(data['sources'])}, {data['hours']:g} hours. Split `{data['split']}`:"
        f" {words.count_clips(data)}.\n",
        *(f"{sentence}\n" for sentence in words.describe_scored_clips(data, run.split)),
    ]
    for name, target_group in targets.items():
        lines.append(f"{describe_leakage(select_group(scores, name), target_group, data, run.split)}\n")
    lines += ["An unseen video may show a known person: the corpora do not identify people.\n"]
    lines += [f"{run.same_persons}\n"] if run.same_persons else []
    lines.append("## Results\n")
    for name, target_group in targets.items():
        of_group = select_group(scores, name)
        lines += _tabulate_scores(name, target_group, of_group, data["clips"][run.split], run.split)
    lines.append("## Limits\n")
    for name, target_group in targets.items():
        tables = (select_group(table, name) for table in (scores, comparisons, robustness))
        lines += [
            *([f"### {name}: limits\n"] if len(targets) > 1 else []),
            *_list_limits(target_group, run.interval, *tables),
            "",
        ]
    lines += ["## Subgroups\n", f"{words.NO_GROUPS if groups.empty else words.ABOUT_GROUPS}\n"]
    for name, target_group in targets.items() if len(groups) else ():
        lines += _tabulate_groups(name, target_group, select_group(groups, name))
    return "\n".join(lines).rstrip("\n") + "\n"


def list_cautions(sources: Iterable[str], targets: Targets) -> list[str]:
    """Return the warnings to show next to predictions of a model trained on these corpora: uses to avoid, then notes on
    targets."""
    limits = _IMPRESSIONS if {*sources} <= {*SYNTHETIC, "fiv2", "vlogs"} else _ANY
    notes = (words.note_emotions(target_group) for target_group in targets.values())
    return [limits, *dict.fromkeys(note for note in notes if note)]


def _describe_model(targets: Targets, run: PipelineRun) -> Iterator[str]:
    commit = run.provenance["commit"]
    outputs = "; ".join(_describe_output(name, target_group) for name, target_group in targets.items())
    yield f"- Input: {words.describe_encoders(run.parameters['model'])}"
    yield f"- Output: {outputs}."
    yield f"- Version: {'trained without git' if commit is None else f'commit {format_commit(commit)}'}."
    if run.cost:
        yield f"- Cost: {run.cost}."
    yield "- Licence: *to fill in by the owner of the weights.*"
    yield "- Contact: *to fill in.*\n"


def _describe_output(name: str, target_group: TargetGroup) -> str:
    bounds = {
        "sigmoid": words.format_range(target_group),
        "linear": f"unbounded; labels are {words.format_range(target_group)}",
        "gaussian": f"unbounded, with a standard deviation; labels are {words.format_range(target_group)}",
        "softmax": "fractions that add up to 1",
        "binary": "probabilities",
    }
    return (
        f"{name}: {', '.join(target_group.columns)} ({bounds.get(target_group.head, words.format_range(target_group))})"
    )


def describe_labels(source: str, data: Mapping[str, Any]) -> str:
    """Return what the labels of a corpus are. data: contents of metrics/data.json."""
    if source in SYNTHETIC:
        return _DEMO
    if source == "vlogs":
        return _VLOGS
    if source == "fiv2":
        return _FIV2 if "as distributed" in data.get("annotation_files", {}).values() else _LIKE_FIV2
    return (
        f"The labels of the corpus `{source}` are those of its files. *To fill in: who rated what, and on which scale.*"
    )


def _note_stability(sources: list[str], targets: Targets) -> list[str]:
    notes = (words.note_stability(sources, target_group) for target_group in targets.values())
    return [f"{note}\n" for note in dict.fromkeys(notes) if note]


def _tabulate_scores(name: str, target_group: TargetGroup, scores: pd.DataFrame, clips: int, split: str) -> list[str]:
    """Return a row per target: the model's scores on all clips and on unseen videos, and the baselines' accuracy."""
    subsets = {"all": scores[scores["subset"] == "all"], "unseen": scores[scores["subset"] == "unseen_videos"]}
    counts = [
        f"{title} {rows['clips'].iloc[0]} clips, {rows['videos'].iloc[0]} videos"
        for title, rows in zip(("all clips:", "unseen videos:"), subsets.values(), strict=True)
        if len(rows)
    ]
    models = {key: rows[rows["predictor"] == "model"] for key, rows in subsets.items()}
    columns = {
        "accuracy": (models["all"], "accuracy", 4),
        "R²": (models["all"], "r2", 3),
        "CCC": (models["all"], "ccc", 3),
        "accuracy, unseen videos": (models["unseen"], "accuracy", 4),
    }
    baselines = [
        predictor
        for predictor in words.select_headline_predictors(scores["predictor"].unique())
        if predictor != "model"
    ]
    columns |= {
        f"accuracy of {words.name_predictor(predictor)}": (
            subsets["all"][subsets["all"]["predictor"] == predictor],
            "accuracy",
            4,
        )
        for predictor in baselines
    }
    columns |= {
        f"ceiling of {title}": (subsets["all"][subsets["all"]["predictor"] == CEILING], score, 3)
        for title, score in (("R²", "r2"), ("CCC", "ccc"))
        if np.isfinite([ceilings.find(scores, score, target) for target in target_group.columns]).any()
    }
    cells = {title: _format_column(*column) for title, column in columns.items()}
    lines = [
        f"{name.capitalize()}: {split} split ({'; '.join(counts)}). Scored are {scores['clips'].max()} of {clips} clips:"
        f" those with labels and with the streams that the model needs. Accuracy is {words.name_accuracy(target_group)}."
        f" Brackets: 95 % intervals by bootstrap over videos, from {MIN_VIDEOS} videos on.\n",
        "| target | " + " | ".join(cells) + " |",
        "|---|" + "---|" * len(cells),
    ]
    for target in ("mean", *target_group.columns):
        lines.append(f"| {target} | " + " | ".join(column.get(target, "–") for column in cells.values()) + " |")
    return [*lines, "", *(f"{text}\n" for text in (words.describe_weighting(scores), ceilings.explain(scores)) if text)]


def _format_column(rows: pd.DataFrame, score: str, digits: int) -> dict[str, str]:
    """Return a score with its interval as text, by target."""
    return {row.target: words.format_value(row, digits) for row in rows[rows["score"] == score].itertuples()}


def _list_limits(
    target_group: TargetGroup, level: float, scores: pd.DataFrame, comparisons: pd.DataFrame, robustness: pd.DataFrame
) -> Iterator[str]:
    """Yield a line for each limit of the model. level: of the prediction intervals."""
    model = scores[scores["predictor"] == "model"].set_index(["subset", "score", "target"])["value"]
    means = scores[scores["target"] == "mean"].set_index(["subset", "score", "predictor"])["value"]

    def find(score: str, target: str = "mean", subset: str = "all") -> float:
        return float(model.get((subset, score, target), np.nan))

    mae, scale = means["all", "mae", "mean_predictor"], words.format_range(target_group)
    yield f"- Mean absolute error: {find('mae'):.3f} (scale {scale}); the training mean's is {mae:.3f}."
    failed = [target for target in target_group.columns if not find("r2", target) > 0]
    if failed:
        yield f"- No better than a constant (R² not above 0): {', '.join(failed)}."
    yield from _list_better_baselines(target_group, scores, comparisons)
    ratio, regression = find("std_ratio"), find("regression_to_mean")
    compared = "less than" if ratio < 1 else "at least as much as"
    yield (
        f"- Predictions vary {compared} labels (SD ratio {ratio:.2f}; 1 is ideal). Regression to the mean is"
        f" {regression:.2f} (0 is ideal)."
    )
    if np.isfinite(coverage := find("coverage")):
        yield f"- The {level:.0%} intervals cover {coverage:.0%} of the labels."
    seen_accuracy, unseen_accuracy = (find("accuracy", subset=subset) for subset in ("seen_videos", "unseen_videos"))
    if np.isfinite(seen_accuracy - unseen_accuracy):
        yield (
            f"- {words.name_accuracy(target_group)} is {seen_accuracy:.3f} on videos seen in training and"
            f" {unseen_accuracy:.3f} on unseen videos."
        )
    losses = robustness[robustness["target"] == "mean"].dropna(subset="loss") if len(robustness) else robustness
    for row in losses.nlargest(1, "loss").itertuples() if len(losses) else ():
        yield (
            f"- Largest loss under degradation: {row.loss:.3f} in {words.name_accuracy(target_group)},"
            f" {words.describe_corruption(row.corruption, row.strength)}. The model was not trained for it."
        )


def _list_better_baselines(target_group: TargetGroup, scores: pd.DataFrame, comparisons: pd.DataFrame) -> Iterator[str]:
    """Yield a line on the baselines that reach a higher accuracy than the model on all clips; leaks are left out."""
    rows = scores[(scores["subset"] == "all") & (scores["target"] == "mean") & (scores["score"] == "accuracy")]
    accuracy = rows.set_index("predictor")["value"].sort_values(ascending=False)
    compared = comparisons[(comparisons["subset"] == "all") & (comparisons["target"] == "mean")].set_index("predictor")
    better = []
    for name, value in accuracy.items():
        if value > accuracy["model"] and name != STACKED_RIDGE_LOOKUP:
            is_tested = name in compared.index and pd.notna(compared["p_holm"][name])
            tested = f", {words.format_p(compared.loc[name])}" if is_tested else ""
            better.append(f"{words.name_predictor(str(name))} ({value:.3f}{tested})")
    if better:
        score = f"{accuracy['model']:.3f} in {words.name_accuracy(target_group)}"
        yield f"- Simpler predictors are more accurate than the model ({score}): {join(better)}."


def _tabulate_groups(name: str, target_group: TargetGroup, groups: pd.DataFrame) -> list[str]:
    scores, small = words.list_group_scores(target_group), score_tables.describe_small_groups(groups)
    rows = []
    for kind, of_kind in groups.groupby("kind", sort=False):
        tables = {label: score_tables.make_group_table(of_kind, *score) for score, label in scores.items()}
        filled = {label: table["mean"] for label, table in tables.items() if not table.empty}
        if not filled:
            continue
        means = pd.DataFrame(filled).reindex(columns=list(scores.values()), fill_value="–").fillna("–")
        rows += [f"| {kind} | {label} | " + " | ".join(cells) + " |" for label, cells in means.iterrows()]
    lines = [f"{name.capitalize()}: mean over {', '.join(target_group.columns)}, with 95 % intervals over videos.\n"]
    lines += ["| | group | " + " | ".join(scores.values()) + " |", "|---|---|" + "---|" * len(scores), *rows, ""]
    return [*(lines if rows else []), *([small, ""] if small else [])]
