"""One self-contained HTML page: the scores beside the baselines, and the figures."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from lib.scores import COLUMNS

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
    "regression_to_mean": "Regression to the mean: 0 if extreme scores are predicted as such, 1 if all come out as the mean",
}
GROUP_SCORES = {"accuracy": "1 − MAE", "bias": "mean signed error, predicted − actual"}
NO_GROUPS = (
    "No groups file (gender, ethnicity, age) was in data/archives/: errors for groups of persons were not measured. Assume"
    " that they differ."
)
_STYLE = """body { font: 14px/1.5 sans-serif; max-width: 84em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 82%; white-space: nowrap; }
th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child { text-align: left; } .groups td { white-space: normal; } img { max-width: 100%; }"""


def page(scores: pd.DataFrame, groups: pd.DataFrame, figures: Mapping[str, Path], planted: bool) -> str:
    """Return the page's HTML; `scores` as in data/scores.csv, `groups` as in data/group_scores.csv, `figures` from caption
    to PNG file; `planted` says that the labels are the demo's."""
    parts = ["<h1>Apparent personality: predictions on clips not trained on</h1>"]
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
            f"<h2>{title} ({clips} clips of {videos} videos)</h2><p>95 % intervals: bootstrap over videos.</p>"
        )
        for score, label in _SCORES.items():
            parts.append(f"<h3>{label}</h3>{table(rows, score).to_html(border=0)}")
    parts.append("<h2>Groups of persons</h2>")
    if groups.empty:
        parts.append(f"<p>{NO_GROUPS}</p>")
    for kind, rows in groups.groupby("kind", sort=False):
        for score, label in GROUP_SCORES.items():
            parts.append(
                f"<h3>{escape(str(kind))}: {label}</h3>{group_table(rows, score).to_html(border=0, classes='groups')}"
            )
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


def group_table(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return one score of the model as a table: groups by rows, the gap last; the mean and each trait by columns; text."""
    of_score, cells = rows[rows["score"] == score], {}
    gaps = of_score["group"].str.startswith("gap")
    for group, of_group in of_score[~gaps].groupby("group", sort=False):
        label = f"{group} ({of_group['clips'].iloc[0]} clips, {of_group['videos'].iloc[0]} videos)"
        cells[label] = {row["trait"]: _text(row) for _, row in of_group.iterrows()}
    if gaps.any():
        cells["gap between"] = {
            row["trait"]: f"{_text(row)} {row['group'].removeprefix('gap: ')}" for _, row in of_score[gaps].iterrows()
        }
    return pd.DataFrame(cells).T[list(COLUMNS)]


def table(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return one score as a table: predictors by rows; the mean and each trait by columns; text."""
    of_score = rows[rows["score"] == score].set_index(["predictor", "trait"])
    cells = {
        label: {column: _text(of_score.loc[(name, column)]) for column in COLUMNS}
        for name, label in _NAMES.items()
        if name in rows["predictor"].unique()
    }
    return pd.DataFrame(cells).T[list(COLUMNS)]


def _text(row: pd.Series) -> str:
    value, low, high = (f"{row[name] + 0.0:.3f}".replace("-0.000", "0.000") for name in ("value", "low", "high"))
    return "–" if pd.isna(row["value"]) else f"{value} [{low}, {high}]"
