"""One self-contained HTML page: the scores beside the baselines, and the figures."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from lib.traits import TRAITS

_NAMES = {
    "model": "model",
    "mean_predictor": "training mean (sees nothing)",
    "video_lookup": "video look-up (sees no pixel)",
}
_STYLE = """body { font: 15px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; } th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child { text-align: left; } img { max-width: 100%; }"""


def page(metrics: Mapping[str, Any], figures: Mapping[str, Path], planted: bool) -> str:
    """Return the page's HTML; `metrics` as in metrics/test.json, `figures` from caption to PNG file; `planted`
    says that the labels are the demo's."""
    parts = ["<h1>Apparent personality: predictions on clips not trained on</h1>"]
    if planted:
        parts.append(
            "<p><strong>Demo corpus: rendered clips with planted labels, which say nothing about anybody</strong>"
            " (data/README.md says what carries each trait).</p>"
        )
    for group, title in (("all", "All clips"), ("unseen_videos", "Clips of videos that training has not seen")):
        parts.append(f"<h2>{title} ({metrics[group]['clips']})</h2>")
        if metrics[group]["clips"]:
            for score, label in (("accuracy", "1 − MAE"), ("r2", "R²"), ("ccc", "CCC")):
                shown = table(metrics[group], score).to_html(na_rep="–", border=0, float_format="{:.4f}".format)
                parts.append(f"<h3>{label}</h3>{shown}")
            parts.append(
                "<h3>Skill over the training mean, 1 − MSE / MSE of the mean, and its 95 % interval by bootstrap over"
                f" {metrics[group]['videos']} videos</h3>{skills(metrics[group]['model']).to_html(border=0)}"
            )
    parts.append(
        "<p>In FIV2 the score called neuroticism correlates positively with the other four: it behaves as emotional"
        " stability. Scores with few clips are uncertain; a model is only as good as its distance to the two baselines.</p>"
    )
    for caption, file in figures.items():
        data = base64.b64encode(file.read_bytes()).decode()
        parts.append(f'<h2>{escape(caption)}</h2><img alt="{escape(caption)}" src="data:image/png;base64,{data}">')
    head = f'<meta charset="utf-8"><title>Report</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en">{head}{"".join(parts)}</html>\n'


def table(group: Mapping[str, Any], score: str) -> pd.DataFrame:
    """Return one score as a table: predictors by rows; the mean and each trait by columns."""
    rows = {label: group[name][score] for name, label in _NAMES.items()}
    return pd.DataFrame(rows).T[["mean", *TRAITS]].astype(float).round(4) + 0.0  # no "-0.0"


def skills(model: Mapping[str, Any]) -> pd.DataFrame:
    """Return the model's skill as a table of one row: value, and lower and upper end of the interval."""
    text = {}
    for column in ("mean", *TRAITS):
        values = [model[name][column] for name in ("skill", "skill_low", "skill_high")]
        value, low, high = ("–" if one is None else f"{one:.2f}" for one in values)
        text[column] = f"{value} [{low}, {high}]"
    return pd.DataFrame([text], index=["model"])
