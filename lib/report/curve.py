"""The learning curve: scores of experiments by number of training clips, as Markdown, LaTeX and a figure."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lib.core.targets import TargetGroup
from lib.report import ceilings, comparison, words
from lib.report.figures import COLOURS
from lib.scoring.ceilings import CEILING
from lib.scoring.stacked_baselines import STACKED_RIDGE

_MARKERS = "osD^v"
_BLIND = ("mean_predictor", "shrunk_video_lookup")
_EXPLAINED = (
    "each predictor learns from up to this number of training clips, in complete videos; smaller sets are subsets of larger"
    " ones; 95 % intervals over the test clips' videos"
)


def make_curve(tables: Mapping[int, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Return a row for each number of training clips, predictor, score and target.

    tables: by number of training clips, a table for each seed: rows of data/scores.csv for one target group and subset
    of the clips. value: mean over seeds. low, high: means of the interval's ends over seeds; this interval is at least
    as wide as the interval of the mean. seed_std: standard deviation over seeds, NaN for a single seed. seeds: their
    number.
    """
    tables_with_clips = [
        table.assign(training_clips=clips) for clips, seed_tables in tables.items() for table in seed_tables
    ]
    grouped = pd.concat(tables_with_clips).groupby(["training_clips", "predictor", "score", "target"], sort=False)
    means = grouped[["value", "low", "high"]].mean()
    return means.assign(seed_std=grouped["value"].std(), seeds=grouped.size()).reset_index()


def select_predictors(table: pd.DataFrame) -> list[str]:
    """Return the predictors to show: the model, stacked ridge (or each ridge regression if it is missing), the training
    mean, and the video look-up if it differs from the training mean."""
    available = [name for name in dict.fromkeys(table["predictor"]) if name not in words.ATTRIBUTE_BASELINES]
    regressions = (
        [STACKED_RIDGE] if STACKED_RIDGE in available else [name for name in available if name.startswith("ridge_")]
    )
    mean, look_up = (table.loc[table["predictor"] == name, "value"].to_numpy() for name in _BLIND)
    blind = _BLIND if len(look_up) and not np.array_equal(mean, look_up, equal_nan=True) else _BLIND[:1]
    return ["model", *regressions, *blind]


def format_markdown(table: pd.DataFrame, which: str, group: TargetGroup) -> str:
    """Return a table for each score; `which`: name of the clips."""
    sizes = list(dict.fromkeys(table["training_clips"]))
    lines = [f"Mean of {', '.join(group.columns)} on {which}; {_EXPLAINED}"]
    for score, (label, digits) in words.list_headline_scores(group).items():
        lines += [f"\n| {label}, training clips | {' | '.join(map(str, sizes))} |", "|---|" + "---|" * len(sizes)]
        lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in _cells(table, score, digits).items()]
    return "\n".join(lines)


def write(table: pd.DataFrame, which: str, group: TargetGroup, out: Path) -> None:
    """Write out.csv (each predictor and target), out.tex (booktabs), out.png and out.pdf."""
    rows: dict[str, list[str]] = {}
    for score, (label, digits) in words.list_headline_scores(group).items():
        rows |= {f"{label}: {name}": cells for name, cells in _cells(table, score, digits).items()}
    sizes = list(map(str, dict.fromkeys(table["training_clips"])))
    caption = f"Mean of {', '.join(group.columns)} on {which}, by number of training clips; {_EXPLAINED}."
    cells = pd.DataFrame.from_dict(rows, orient="index", columns=sizes)
    comparison.save(table, cells, caption, draw_panels(table, which, group), out)


def draw_panels(table: pd.DataFrame, which: str, group: TargetGroup) -> Figure:
    """Return a figure with a panel for each score: each predictor's mean over targets against the number of training clips,
    with its 95 % interval."""
    means = table[table["target"] == "mean"].set_index(["score", "predictor"]).sort_index()
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    names, sizes = select_predictors(table), sorted(set(table["training_clips"]))
    grid = figure.subplots(1, len(words.list_headline_scores(group)))
    for axes, (score, (label, _)) in zip(grid, words.list_headline_scores(group).items(), strict=True):
        for index, (name, marker) in enumerate(zip(names, cycle(_MARKERS), strict=False)):
            rows = means.loc[[(score, name)]].sort_values("training_clips")
            positions = rows["training_clips"] * 1.025 ** (index - (len(names) - 1) / 2)  # side by side
            reach = np.maximum([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0)  # rounding
            style = {"color": COLOURS[index % len(COLOURS)], "marker": marker, "markersize": 4, "capsize": 2}
            axes.errorbar(positions, rows["value"], yerr=reach, linewidth=1, label=words.name_predictor(name), **style)
        if (score, CEILING) in means.index:
            ceilings.draw(axes, means.loc[(score, CEILING), "value"].iloc[0], vertical=False)
        axes.set(xscale="log", xlabel="training clips (log scale)", ylabel=label)
        axes.set_xticks(sizes, map(str, sizes), rotation=45)
        axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    title = f"Mean of {', '.join(group.columns)}\n{which}; {comparison.describe_marks(table['seeds'].max())}"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure


def _cells(table: pd.DataFrame, score: str, digits: int) -> dict[str, list[str]]:
    means = table[(table["target"] == "mean") & (table["score"] == score)]
    rows_by_predictor = {name: means[means["predictor"] == name].itertuples() for name in select_predictors(table)}
    return {
        words.name_predictor(name): [" ".join(filter(None, words.format_over_seeds(row, digits))) for row in rows]
        for name, rows in rows_by_predictor.items()
    } | _format_ceilings(means, digits)


def _format_ceilings(means: pd.DataFrame, digits: int) -> dict[str, list[str]]:
    """Return a row with the ceiling for each number of training clips, none if it is unknown."""
    bounds = means[means["predictor"] == CEILING]
    cells = [words.format_value(row, digits) for row in bounds.itertuples()]
    return {words.name_predictor(CEILING): cells} if cells else {}
