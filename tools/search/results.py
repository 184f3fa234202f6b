"""The tables of a search: the validation score of each trial, and the chosen trial's validation and test scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.report import words
from lib.report.ceilings import ABOUT
from lib.report.names import escape_table
from lib.scoring.ceilings import CEILING
from tools.search.space import format_cell, format_changes
from tools.search.trials import LOWER_IS_BETTER, Search, select_scores

MOST = 20
"""Number of trials that are printed; the file has all."""


def show(search: Search, chosen: str, test: pd.DataFrame, group: TargetGroup, out: Path) -> None:
    """Print and write the tables; test: the test scores of the trial `chosen`, of `combine_folds`."""
    validation = search.scores[chosen]
    assert validation is not None
    trials, scores = tabulate_trials(search, chosen), tabulate_scores(validation, test)
    print(f"\n{describe_validation(search, validation, group)}\n")
    print(format_trials(trials, search.metric))
    print(f"\nChosen: {chosen} ({format_changes(search.changes[chosen])})\n")
    print(format_scores(scores, group, search.metric))
    first = test.iloc[0]
    print(
        f"\nTest: {first['clips']} clips of {first['videos']} videos. Optimism: validation minus test. The validation"
        f" score is the best of {trials['value'].notna().sum()}, which makes it too high; report the test score. Intervals:"
        " 95 % over videos, for this trained model; that of the optimism treats the two splits as independent."
    )
    if scores["test_ceiling"].notna().any():
        print(f"\n{ABOUT}")
    out.parent.mkdir(parents=True, exist_ok=True)
    trials.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    scores.to_csv(out.with_name(f"{out.name}-test.csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv, {out}-test.csv")


def describe_validation(search: Search, validation: pd.DataFrame, group: TargetGroup) -> str:
    """Return a sentence on the clips of the validation scores."""
    first = validation.iloc[0]
    where = f"mean over {search.folds} inner folds" if search.folds else "validation split"
    unseen = ", of videos without training clips" if search.subset == "unseen_videos" else ""
    return (
        f"Validation scores of {len(search.scores)} trials: {where}, {first['clips']} clips of"
        f" {first['videos']} videos{unseen}; mean of {', '.join(group.columns)}"
    )


def tabulate_trials(search: Search, chosen: str) -> pd.DataFrame:
    """Return a row for each trial, the best first: its name, changes, state, validation score and interval.

    value, low, high: of search.metric, NaN if the trial failed. ceiling: of that score, NaN if it is unknown.
    """
    rows: list[dict[str, Any]] = []
    for label, table in search.scores.items():
        cells: dict[str, Any] = {key: format_cell(value) for key, value in search.changes[label].items()}
        cells |= {
            "state": "failed" if table is None else "chosen" if label == chosen else "done",
            "score": search.metric,
        }
        cells |= dict.fromkeys(("value", "low", "high", "ceiling"), np.nan)
        if table is not None:
            row = select_scores(table).loc[search.metric]
            cells |= {"value": row["value"], "low": row["low"], "high": row["high"]}
            cells["ceiling"] = select_scores(table, CEILING)["value"].get(search.metric, np.nan)
        rows.append({"trial": label} | cells)
    is_ascending = search.metric in LOWER_IS_BETTER
    return pd.DataFrame(rows).sort_values("value", ascending=is_ascending, kind="stable", ignore_index=True)


def tabulate_scores(validation: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each score of both tables: values and intervals of validation, test and optimism, and the ceilings.

    The optimism is validation minus test. Its interval combines those of both values, as for independent samples.
    """
    columns = ["value", "low", "high"]
    before, after = (select_scores(table)[columns] for table in (validation, test))
    table = before.add_prefix("validation_").join(after.add_prefix("test_"), how="inner")
    to_low = np.hypot(before["value"] - before["low"], after["high"] - after["value"])
    to_high = np.hypot(before["high"] - before["value"], after["value"] - after["low"])
    table["optimism_value"] = before["value"] - after["value"]
    table["optimism_low"] = table["optimism_value"] - to_low
    table["optimism_high"] = table["optimism_value"] + to_high
    for name, scores in (("validation", validation), ("test", test)):
        table[f"{name}_ceiling"] = select_scores(scores, CEILING)["value"].reindex(table.index)
    return table.reset_index()


def format_trials(trials: pd.DataFrame, metric: str) -> str:
    """Return the best trials as Markdown."""
    keys = list(trials.columns[1 : list(trials.columns).index("state")])
    has_ceiling = trials["ceiling"].notna().any()
    header = ["trial", *keys, metric, *(["ceiling"] if has_ceiling else [])]
    lines = [header, ["---"] * len(header)]
    for row in escape_table(trials.head(MOST)).to_dict("records"):
        value = "failed" if row["state"] == "failed" else _format(row, "")
        lines.append(
            [row["trial"], *(row[key] for key in keys), value, *([f"{row['ceiling']:.3f}"] if has_ceiling else [])]
        )
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return text + (f"\n\n{len(trials) - MOST} more trials are in the file" if len(trials) > MOST else "")


def format_scores(scores: pd.DataFrame, group: TargetGroup, metric: str) -> str:
    """Return accuracy, R², CCC and the score that chose as Markdown, with ceilings if they are known."""
    labels = {score: label for score, (label, _) in words.list_headline_scores(group).items()}
    labels.setdefault(metric, metric)
    has_ceiling = scores["test_ceiling"].notna().any()
    header = ["score", "validation", "test", "optimism", *(["ceiling of test"] if has_ceiling else [])]
    lines = [header, ["---"] * len(header)]
    rows = {row["score"]: row for row in scores.to_dict("records")}
    for score, label in labels.items():
        cells = [label + (", chose" if score == metric else "")]
        cells += [_format(rows[score], f"{part}_") for part in ("validation", "test", "optimism")]
        bound = rows[score]["test_ceiling"]
        lines.append([*cells, *(["–" if np.isnan(bound) else f"{bound:.3f}"] if has_ceiling else [])])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _format(row: dict[str, Any], prefix: str) -> str:
    """Return a value and its interval as text."""
    return words.format_value(pd.Series({end: row[prefix + end] for end in ("value", "low", "high")}))
