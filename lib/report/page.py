"""One self-contained HTML page: the scores beside the baselines, and the figures."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd

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
_STYLE = """body { font: 14px/1.5 sans-serif; max-width: 84em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 82%; white-space: nowrap; }
th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child { text-align: left; } .groups td { white-space: normal; } img { max-width: 100%; }"""


def page(
    scores: pd.DataFrame,
    groups: pd.DataFrame,
    targets: Targets,
    figures: Mapping[str, Mapping[str, Path]],
    split: str,
    sources: Sequence[str],
) -> str:
    """Return the page's HTML: a section for each of `targets`.

    `scores` as in data/scores.csv, `groups` as in data/group_scores.csv; `figures` from target group, "" for what concerns
    all of them, to caption to PNG file; `split` is the one that was scored, `sources` where its clips come from.
    """
    parts = [f"<h1>{escape(', '.join(targets).capitalize())}: predictions on the {escape(split)} split</h1>"]
    if "demo" in sources:
        parts.append(
            "<p><strong>Demo corpus: rendered clips with planted labels, which say nothing about anybody</strong>"
            " (data/README.md says what carries each trait).</p>"
        )
    for name, group in targets.items():
        if len(targets) > 1:
            parts.append(f"<h1>{escape(name.capitalize())}</h1>")
        parts.append(f"<p>{escape(', '.join(group.columns))}; {words.scale(group)}.</p>")
        parts += _of_clips(scores[scores["targets"] == name], group)
        parts += _of_persons(groups[groups["targets"] == name], group)
        parts += [f"<p>{about}</p>" for about in (words.stability(sources, group), words.feelings(group)) if about]
        parts += _drawn(figures[name])
    parts.append(
        "<p>Scores with few clips are uncertain; a model is only as good as its distance to the predictors that see no"
        " pixel.</p>"
    )
    parts += _drawn(figures[""])
    head = f'<meta charset="utf-8"><title>Report</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en">{head}{"".join(parts)}</html>\n'


def _of_clips(scores: pd.DataFrame, group: TargetGroup) -> list[str]:
    parts = []
    for subset, title in words.SUBSETS.items():
        rows = scores[scores["subset"] == subset]
        title = title[0].upper() + title[1:]
        if rows.empty:
            parts.append(f"<h2>{title}: none</h2>")
            continue
        clips, videos = rows["clips"].iloc[0], rows["videos"].iloc[0]
        parts.append(
            f"<h2>{title} ({clips} clips of {videos} videos)</h2><p>95 % intervals: bootstrap over videos,"
            f" from {MIN_VIDEOS} videos on.</p>"
        )
        for score, label in ({"accuracy": words.accuracy(group)} | _SCORES | _detections(group)).items():
            if (rows["score"] == score).any():
                parts.append(f"<h3>{label}</h3>{table(rows, score).to_html(border=0)}")
    return parts


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


def _of_persons(groups: pd.DataFrame, group: TargetGroup) -> list[str]:
    parts = [f"<h2>Groups of persons</h2><p>{words.NO_GROUPS if groups.empty else words.ABOUT_GROUPS}</p>"]
    for kind, rows in groups.groupby("kind", sort=False):
        for (predictor, score), label in words.group_scores(group).items():
            cells = group_table(rows, predictor, score).to_html(border=0, classes="groups")
            parts.append(f"<h3>{escape(str(kind))}: {label}</h3>{cells}")
    return parts


def _drawn(figures: Mapping[str, Path]) -> list[str]:
    parts = []
    for caption, file in figures.items():
        data = base64.b64encode(file.read_bytes()).decode()
        parts.append(f'<h2>{escape(caption)}</h2><img alt="{escape(caption)}" src="data:image/png;base64,{data}">')
    return parts


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
