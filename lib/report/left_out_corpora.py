"""The scores of models on the corpus that each was not trained on, over seeds, as a table and as Markdown."""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib.core.targets import TargetGroup
from lib.report import words
from lib.scoring.corpus_scores import DROP, SCORES, TRAINING, WITHIN

_FITS = {TRAINING: "other corpora", WITHIN: "the corpus itself", DROP: "drop"}
_KEYS = ["corpus", "predictor", "fit", "score", "target"]


def combine_seeds(tables: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Return a row for each corpus left out, predictor, fit, score and target, from rows of data/corpus_scores.csv.

    tables: by corpus, a table for each seed. value, low and high are means over seeds; seed_std is the standard deviation of
    the value over seeds, NaN for a single seed. clips, videos: numbers of the corpus' scored clips and their videos.
    """
    parts = [table[table["corpus"] == corpus] for corpus, of_seeds in tables.items() for table in of_seeds]
    grouped = pd.concat(parts).groupby(_KEYS, sort=False)
    means = grouped[["value", "low", "high"]].mean().assign(seeds=grouped.size(), seed_std=grouped["value"].std())
    return means.assign(clips=grouped["clips"].max(), videos=grouped["videos"].max()).reset_index()


def format_markdown(table: pd.DataFrame, group: TargetGroup) -> str:
    """Return a row for each corpus left out, predictor and fit: the means over targets of accuracy, r and ρ."""
    means = table[table["target"] == "mean"].set_index(["corpus", "predictor", "fit", "score"]).sort_index()
    labels = [words.name_accuracy(group), "r", "ρ"]
    lines = [
        f"Mean of {', '.join(group.columns)}; each corpus is scored by models that were trained on the others; 95 %"
        f" intervals over videos, number of seeds: {table['seeds'].max()}\n",
        f"| left out | clips | predictor | trained on | {' | '.join(labels)} | SD of r over seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for corpus, predictor, fit in dict.fromkeys(key[:3] for key in means.index):
        rows = means.loc[(corpus, predictor, fit)]
        cells = [words.format_value(rows.loc[score], 3) if score in rows.index else "–" for score in SCORES]
        spread = rows["seed_std"].get("pearson", float("nan"))
        cells.append("–" if pd.isna(spread) else f"{spread:.3f}")
        name = words.name_predictor(predictor)
        lines.append(f"| {corpus} | {rows['clips'].iloc[0]} | {name} | {_FITS[fit]} | {' | '.join(cells)} |")
    return "\n".join(lines)
