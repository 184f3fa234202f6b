"""The learning curve: scores of experiments (rows of their data/scores.csv) by number of training clips, as Markdown, LaTeX
and figure."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lib.core.targets import TargetGroup
from lib.report import comparison, words
from lib.report.figures import COLOURS

_MARKERS = "osD^v"
_BLIND = ("mean_predictor", "shrunk_video_lookup")
_EXPLAINED = (
    "each predictor learns from up to this number of training clips, in complete videos; smaller sets are parts of larger"
    " ones; 95 % intervals over the test clips' videos"
)


def make_curve(tables: Mapping[int, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Return a row for each number of training clips, predictor, score and target of the `tables` (rows of data/scores.csv,
    of one target group and subset of the clips; a table a seed): value, the mean over seeds; low and high, the means of the
    ends of its interval, which is at least as wide as that of the mean; seed_std, over seeds, NaN for one; and seeds."""
    tables_with_clips = [table.assign(training_clips=clips) for clips, of_seed in tables.items() for table in of_seed]
    grouped = pd.concat(tables_with_clips).groupby(["training_clips", "predictor", "score", "target"], sort=False)
    means = grouped[["value", "low", "high"]].mean()
    return means.assign(seed_std=grouped["value"].std(), seeds=grouped.size()).reset_index()


def select_predictors(table: pd.DataFrame) -> list[str]:
    """Return which of a curve's predictors readers see: the model, ridge stacked or else on each vector, the training mean
    and, where it differs from that, the video look-up."""
    available = list(dict.fromkeys(table["predictor"]))
    regressions = (
        ["stacked_ridge"] if "stacked_ridge" in available else [name for name in available if name.startswith("ridge_")]
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
    """A panel for each score: the mean over targets of each predictor that is `shown` against the number of training clips,
    with its 95 % interval."""
    means = table[table["target"] == "mean"].set_index(["score", "predictor"]).sort_index()
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    names, sizes = select_predictors(table), sorted(set(table["training_clips"]))
    grid = figure.subplots(1, len(words.list_headline_scores(group)))
    for axes, (score, (label, _)) in zip(grid, words.list_headline_scores(group).items(), strict=True):
        for index, (name, marker) in enumerate(zip(names, cycle(_MARKERS), strict=False)):
            rows = means.loc[[(score, name)]].sort_values("training_clips")
            places = rows["training_clips"] * 1.025 ** (index - (len(names) - 1) / 2)  # side by side
            reach = np.maximum([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0)  # rounding
            look = {"color": COLOURS[index % len(COLOURS)], "marker": marker, "markersize": 4, "capsize": 2}
            axes.errorbar(places, rows["value"], yerr=reach, linewidth=1, label=words.name_predictor(name), **look)
        axes.set(xscale="log", xlabel="training clips (log scale)", ylabel=label)
        axes.set_xticks(sizes, map(str, sizes), rotation=45)
        axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    seeds = table["seeds"].max()
    points = f"points: mean over {seeds} seeds; bars" if seeds > 1 else "bars"
    title = f"Mean of {', '.join(group.columns)}\n{which}; {points}: 95 % interval over videos"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure


def _cells(table: pd.DataFrame, score: str, digits: int) -> dict[str, list[str]]:
    means = table[(table["target"] == "mean") & (table["score"] == score)]
    of_each = {name: means[means["predictor"] == name].itertuples() for name in select_predictors(table)}
    return {
        words.name_predictor(name): [" ".join(filter(None, words.format_over_seeds(row, digits))) for row in rows]
        for name, rows in of_each.items()
    }
