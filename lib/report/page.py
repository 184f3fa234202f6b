"""One self-contained HTML page: the scores beside the baselines, and the figures."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from lib.scoring.scores import COLUMNS, MIN_VIDEOS

_NAMES = {
    "model": "model",
    "mean_predictor": "training mean (sees nothing)",
    "median_predictor": "training median (sees nothing)",
    "video_lookup": "video look-up (sees no pixel)",
    "shrunk_video_lookup": "video look-up, shrunk (sees no pixel)",
    "ridge": "ridge on mean face and flow energy",
}
_GROUPS = {
    "all": "All clips",
    "seen_videos": "Clips of videos that training has seen",
    "unseen_videos": "Clips of videos that training has not seen",
}
_SCORES = {
    "accuracy": "1 − MAE",
    "r2": "R²",
    "ccc": "CCC",
    "skill": "Skill over the training mean, 1 − MSE / MSE of the mean",
    "std_ratio": "Spread: standard deviation of the predictions over that of the scores",
    "regression_to_mean": "Regression to the mean: 0 if extreme scores are predicted as such, 1 if all come out as the mean;"
    " 1 − R² for a calibrated predictor",
    "calibration_slope": "Slope of the actual scores over the predicted: 1 for a calibrated predictor",
}
GROUP_SCORES = {
    ("model", "accuracy"): "1 − MAE",
    ("model", "bias"): "mean signed error, predicted − actual",
    ("mean_predictor", "bias"): "mean signed error of the training mean, which sees nothing",
}
NO_GROUPS = (
    "No file in data/archives/ tells the groups (gender, ethnicity, age) of the scored clips: errors for groups of persons"
    " were not measured. Assume that they differ."
)
ABOUT_GROUPS = (
    "A difference is that of a group's value to the value of all other groups' clips together. A gap is between the highest"
    f" and the lowest group of {MIN_VIDEOS} or more videos and has no interval: the two are chosen by the same data. A"
    " predictor that is not perfect regresses to the mean, so that groups of other mean scores get other signed errors: hold"
    " them against the training mean's."
)
_STYLE = """body { font: 14px/1.5 sans-serif; max-width: 84em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 82%; white-space: nowrap; }
th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child { text-align: left; } .groups td { white-space: normal; } img { max-width: 100%; }"""


def page(scores: pd.DataFrame, groups: pd.DataFrame, figures: Mapping[str, Path], split: str, planted: bool) -> str:
    """Return the page's HTML; `scores` as in data/scores.csv, `groups` as in data/group_scores.csv, `figures` from caption
    to PNG file; `split` is the one that was scored; `planted` says that the labels are the demo's."""
    parts = [f"<h1>Apparent personality: predictions on the {escape(split)} split</h1>"]
    if planted:
        parts.append(
            "<p><strong>Demo corpus: rendered clips with planted labels, which say nothing about anybody</strong>"
            " (data/README.md says what carries each trait).</p>"
        )
    for group, title in _GROUPS.items():
        rows = scores[scores["group"] == group]
        if rows.empty:
            parts.append(f"<h2>{title}: none</h2>")
            continue
        clips, videos = rows["clips"].iloc[0], rows["videos"].iloc[0]
        parts.append(
            f"<h2>{title} ({clips} clips of {videos} videos)</h2><p>95 % intervals: bootstrap over videos,"
            f" from {MIN_VIDEOS} videos on.</p>"
        )
        for score, label in _SCORES.items():
            parts.append(f"<h3>{label}</h3>{table(rows, score).to_html(border=0)}")
    parts.append("<h2>Groups of persons</h2>")
    parts.append(f"<p>{NO_GROUPS if groups.empty else ABOUT_GROUPS}</p>")
    for kind, rows in groups.groupby("kind", sort=False):
        for (predictor, score), label in GROUP_SCORES.items():
            cells = group_table(rows, predictor, score).to_html(border=0, classes="groups")
            parts.append(f"<h3>{escape(str(kind))}: {label}</h3>{cells}")
    parts.append(
        "<p>In FIV2 the score called neuroticism correlates positively with the other four: it behaves as emotional"
        " stability. Scores with few clips are uncertain; a model is only as good as its distance to the predictors that"
        " see no pixel.</p>"
    )
    for caption, file in figures.items():
        data = base64.b64encode(file.read_bytes()).decode()
        parts.append(f'<h2>{escape(caption)}</h2><img alt="{escape(caption)}" src="data:image/png;base64,{data}">')
    head = f'<meta charset="utf-8"><title>Report</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en">{head}{"".join(parts)}</html>\n'


def group_table(rows: pd.DataFrame, predictor: str, score: str) -> pd.DataFrame:
    """Return one score as a table: groups, their differences to the others, and the gap by rows; the mean and each trait by
    columns; text."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows[(rows["score"] == score) & (rows["predictor"] == predictor)].itertuples():
        label = {
            "value": f"{row.group} ({row.clips} clips, {row.videos} videos)",
            "difference": f"{row.group} less the others",
            "gap": "gap",
        }[row.what]
        cells.setdefault(label, {})[row.trait] = text(row) + (f" ({row.group})" if row.what == "gap" else "")
    return pd.DataFrame(cells).T[list(COLUMNS)]


def table(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return one score as a table: predictors by rows; the mean and each trait by columns; text."""
    of_score = rows[rows["score"] == score].set_index(["predictor", "trait"])
    cells = {
        label: {column: text(of_score.loc[(name, column)]) for column in COLUMNS}
        for name, label in _NAMES.items()
        if name in rows["predictor"].unique()
    }
    return pd.DataFrame(cells).T[list(COLUMNS)]


def text(row: Any, digits: int = 3) -> str:
    """Return the value of a row, or a dash where it is not defined, and its interval if it has one."""
    value, low, high = (f"{number:z.{digits}f}" for number in (row.value, row.low, row.high))  # z: no -0
    if pd.isna(row.value):
        return "–"
    return value if pd.isna(row.low) else f"{value} [{low}, {high}]"
