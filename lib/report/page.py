"""One self-contained HTML page (page.html): the headline first, what was run and on which data, the scores beside the
baselines, and the figures."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib.core.clips import SPLITS, SYNTHETIC
from lib.core.targets import TargetGroup, Targets
from lib.report import words
from lib.scoring.conformal import LEVEL
from lib.scoring.scores import MIN_VIDEOS

_SCORES = {
    "r2": "R²",
    "ccc": "CCC",
    "skill": "Skill over the training mean, 1 − MSE / MSE of the mean",
    "std_ratio": "Spread: standard deviation of the predictions over that of the actual values",
    "regression_to_mean": "Regression to the mean: 0 if extremes are predicted as such, 1 if all come out as the mean;"
    " 1 − R² for a calibrated predictor",
    "calibration_slope": "Slope of the actual values over the predicted: 1 for a calibrated predictor",
    "coverage": f"Coverage: the part of the clips whose label lies in the {LEVEL:.0%} interval of tools.predict",
}
_LEVEL = 0.05  # of the tests in the headline
SECTIONS = {
    "run": "What was run",
    "data": "The data",
    "results": "Results",
    "needs": "What it needs",
    "importance": "What it rests on",
    "robustness": "Robustness",
    "attention": "Where it looks",
    "features": "What the encoders make of clips",
    "samples": "Samples",
    "persons": "Groups of persons",
    "limits": "Limits",
}
_LIMITS = (
    "The labels say how others perceived a person in a clip, or whatever those who gave them were asked; not what the person"
    " is like.",
    "Intervals and p-values are about this trained model on these clips: another seed, corpus, language, camera or culture"
    " may give others. tools.ablate measures the spread over seeds.",
    "An unseen video is not an unseen person: nothing tells who is in another video.",
    "Attention weights show where information can flow, not what a prediction rests on.",
)


class Drawn(NamedTuple):
    """A figure as the page shows it: its target group ("": all), section, title, caption and PNG file."""

    targets: str
    section: str
    title: str
    caption: str
    file: Path


class Run(NamedTuple):
    """What was run: `provenance` as in data/provenance.json, `data` as in metrics/data.json, the split that was scored, and
    `parameters` as in params.yaml and as `shipped`."""

    provenance: Mapping[str, Any]
    data: Mapping[str, Any]
    split: str
    parameters: Mapping[str, Any]
    shipped: Mapping[str, Any]


def page(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    groups: pd.DataFrame,
    clips: pd.DataFrame,
    targets: Targets,
    figures: Sequence[Drawn],
    run: Run,
    dpi: int,
) -> str:
    """Return the page's HTML; `scores`, `comparisons`, `groups` and `clips` as in data/scores.csv, comparisons.csv,
    group_scores.csv and clips.csv; `targets` are those predicted, figures have `dpi` pixels an inch."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sources, shown = run.data["sources"], []
    for figure in figures:
        content = figure.file.read_bytes()
        width, height = (round(96 * pixels / dpi) for pixels in struct.unpack(">II", content[16:24]))  # PNG's header
        encoded = base64.b64encode(content).decode()
        shown.append(figure._asdict() | {"data": encoded, "width": width, "height": height})
    about = [note(group) for group in targets.values() for note in (partial(words.stability, sources), words.feelings)]
    return environment.get_template("page.html").render(
        sections=SECTIONS,
        planted=not {*SYNTHETIC}.isdisjoint(sources),
        split=run.split,
        groups={
            name: {
                "headline": headline(of(scores, name), of(comparisons, name), group),
                "about": f"{', '.join(group.columns)}; {words.scale(group)}.",
                "labels": _labels(clips, group),
                "tables": _tables(of(scores, name), of(comparisons, name), group),
                "persons": _of_persons(of(groups, name), group),
            }
            for name, group in targets.items()
        },
        figures=shown,
        run=_run(run),
        changed=changed(run.parameters, run.shipped),
        data=[_clips(run.data), *(leakage(of(scores, name), group, run) for name, group in targets.items())],
        fewest=MIN_VIDEOS,
        persons=words.NO_GROUPS if groups.empty else words.ABOUT_GROUPS,
        limits=[*dict.fromkeys(filter(None, about)), *_LIMITS],
    )


def of(table: pd.DataFrame, targets: str) -> pd.DataFrame:
    """Return the rows of a target group."""
    return table[table["targets"] == targets]


def headline(scores: pd.DataFrame, comparisons: pd.DataFrame, group: TargetGroup) -> list[str]:
    """Return what comes first: how a target group's model stands to what it has to beat, on all clips and on those of unseen
    videos."""
    sentences = []
    for subset, which in (("all", ""), ("unseen_videos", " that training has not seen")):
        rows = scores[(scores["subset"] == subset) & (scores["target"] == "mean")]
        if rows.empty:
            sentences.append("No clip is of a video that training has not seen: how it does there was not measured.")
            continue
        of_model = rows[rows["predictor"] == "model"].set_index("score")
        (_, accuracy), *others = (
            (score, f"{label}{{}}{words.text(of_model.loc[score], 3)}")
            for score, (label, _) in words.headline_scores(group).items()
        )
        clips, videos = rows["clips"].iloc[0], rows["videos"].iloc[0]
        values = rows[rows["score"] == "accuracy"].set_index("predictor")["value"]
        against = comparisons[(comparisons["subset"] == subset) & (comparisons["target"] == "mean")]
        verdicts: dict[str, list[str]] = {}
        for name, short in words.rivals(values.index).items():
            if name != "model":
                verdict, p = _verdict(against[against["predictor"] == name].iloc[0])
                verdicts.setdefault(verdict, []).append(f"{short} ({values[name]:.3f}{p})")
        said = "; it ".join(f"{verdict} that of {_listed(names)}" for verdict, names in verdicts.items())
        more = " and ".join(text.format(" ") for _, text in others)
        sentences.append(
            f"On {clips} clips of {videos} videos{which} the model's {accuracy.format(', ')}, {said}. It reaches {more}."
        )
    return sentences


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _verdict(row: pd.Series) -> tuple[str, str]:
    """How the model stands to a predictor, and the p-value, which may be empty."""
    if pd.isna(row["p_holm"]):
        return "stands, with too few videos for a test, beside", ""
    p = f", p = {row['p_holm']:.2g}"
    if row["p_holm"] >= _LEVEL:
        return "can't be told from", p
    return ("beats" if row["difference"] > 0 else "is worse than"), p


def leakage(scores: pd.DataFrame, group: TargetGroup, run: Run) -> str:
    """Return what a video that training has seen is worth: to the look-up, which sees no pixel, and to the model."""
    shared, videos = run.data["videos_shared_with_training"].get(run.split, 0), run.data["videos"][run.split]
    said = f"{shared} of the {videos} {run.split} videos have clips in training too."
    means = scores[(scores["target"] == "mean") & (scores["score"] == "accuracy")]
    values = means.set_index(["subset", "predictor"])["value"]
    if ("seen_videos", "model") not in values.index:
        return said
    gain = values["seen_videos", "video_lookup"] - values["seen_videos", "mean_predictor"]
    worth = f"{gain:+.3f}".replace("-", "−")
    name = words.accuracy(group)
    said += f" On their clips the look-up of a video's mean is worth {worth} in {name} over the training mean"
    if ("unseen_videos", "model") not in values.index:
        return f"{said}; no clip is of another video."
    seen, unseen = values["seen_videos", "model"], values["unseen_videos", "model"]
    return f"{said}; the model reaches {seen:.3f} there and {unseen:.3f} on clips of other videos."


def _clips(data: Mapping[str, Any]) -> str:
    sources = ", ".join(data["sources"])
    return f"Corpora: {sources}, {data['hours']:g} hours. Split {data['split']}: {words.dealt(data)}."


def _run(run: Run) -> dict[str, str]:
    commit = run.provenance["commit"]
    return {
        "Model": words.encoders(run.parameters["model"]).replace("`", ""),
        "Trained at commit": "unknown: trained without git" if commit is None else words.at_commit(commit),
        "Newest input": words.newest_input(run.provenance),
        "Learnt from": " and ".join(f"{count} {split} clips" for split, count in run.provenance["clips"].items()),
        "Hardware": run.provenance["hardware"],
        "Seed": str(run.provenance["seed"]),
        "Packages": words.versions(run.provenance),
    }


def changed(parameters: Mapping[str, Any], shipped: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the parameters that are not as shipped, by name, with both values as text; none of how stages are run."""
    both = [_flat(one) for one in (shipped, parameters)]
    names = [name for name in dict.fromkeys([*both[0], *both[1]]) if name.partition(".")[0] != "parallel"]
    pairs = {name: (both[0].get(name, "–"), both[1].get(name, "–")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        found |= _flat(value, f"{above}{key}.") if nested else {f"{above}{key}": json.dumps(value)}
    return found


def _labels(clips: pd.DataFrame, group: TargetGroup) -> dict[str, pd.DataFrame]:
    """The labels' statistics by split and their correlations over all clips, as text."""
    columns = list(group.columns)
    rows: dict[Any, dict[str, str]] = {}
    for split in SPLITS:
        of_split = clips.loc[clips["split"] == split, columns]
        for column, values in of_split.items():
            cell = f"{values.mean():.3f} ± {values.std():.3f} ({values.count()})" if values.count() else "–"
            rows.setdefault(column, {})[split] = cell
    correlations = clips[columns].corr().map(lambda value: "–" if pd.isna(value) else f"{value:.2f}")
    return {
        "Labels: mean ± standard deviation (clips)": pd.DataFrame(rows).T,
        "Labels: Pearson's correlations": correlations,
    }


def _tables(scores: pd.DataFrame, comparisons: pd.DataFrame, group: TargetGroup) -> dict[str, dict[str, pd.DataFrame]]:
    """By subset, by score the table of all predictors."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    labels = {"accuracy": words.accuracy(group)} | _SCORES | _detections(group)
    for subset, title in words.SUBSETS.items():
        rows = scores[scores["subset"] == subset]
        title = title[0].upper() + title[1:]
        if rows.empty:
            found[f"{title}: none"] = {}
            continue
        tables = {label: table(rows, score) for score, label in labels.items() if (rows["score"] == score).any()}
        against = comparisons[comparisons["subset"] == subset].assign(score="", value=lambda of: of["difference"])
        tables[f"{words.accuracy(group)} of the model less that of each other predictor"] = table(against, "")
        found[f"{title} ({rows['clips'].iloc[0]} clips of {rows['videos'].iloc[0]} videos)"] = tables
    return found


def _detections(group: TargetGroup) -> dict[str, str]:
    if not group.detect:
        return {}
    rule = (
        f"Present: above {group.range[0]:g} in the labels; detected: from {group.from_unit(group.detect_from):.3g} on."
    )
    return {
        "f1": f"F1 of what is present. {rule}",
        "macro_f1": "F1, mean of present and absent",
        "uar": "UAR, the mean recall of present and absent",
        "auc": "Area under the ROC curve of what is present",
    }


def _of_persons(groups: pd.DataFrame, group: TargetGroup) -> dict[str, pd.DataFrame]:
    return {
        f"{kind}: {label}": group_table(rows, predictor, score)
        for kind, rows in groups.groupby("kind", sort=False)
        for (predictor, score), label in words.group_scores(group).items()
    }


def group_table(rows: pd.DataFrame, predictor: str, score: str) -> pd.DataFrame:
    """Return one score as a table: groups, their differences to the others, and the gap by rows; the mean and each target by
    columns; text."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows[(rows["score"] == score) & (rows["predictor"] == predictor)].itertuples():
        label = {
            "value": f"{row.group} ({row.clips} clips, {row.videos} videos)",
            "difference": f"{row.group} less the others",
            "gap": "gap",
        }[row.what]
        which = f" ({row.group})" if row.what == "gap" and pd.notna(row.value) else ""
        cells.setdefault(label, {})[row.target] = words.text(row) + which
    return pd.DataFrame(cells).T


def table(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return one score as a table: predictors by rows; the mean and each target by columns; text."""
    of_score = rows[rows["score"] == score]
    return pd.DataFrame(
        {
            words.predictor(str(name)): {row.target: words.text(row) for row in of_predictor.itertuples()}
            for name, of_predictor in of_score.groupby("predictor", sort=False)
        }
    ).T
