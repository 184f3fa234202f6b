"""The comparison of predictors (lib.scoring.paired.compare_predictors) as Markdown, LaTeX and figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.report import latex, words
from lib.report.ceilings import ABOUT
from lib.report.figures import COLOURS
from lib.report.names import MOST, escape_markdown, escape_table, shorten
from lib.scoring.baselines import is_baseline
from lib.scoring.ceilings import CEILING


def format_markdown(table: pd.DataFrame, baseline: str, which: str, accuracy: str, resamples: int) -> str:
    """Return the tables; `which`: name of the clips, `accuracy`: definition of accuracy (`words.name_accuracy`).

    resamples: number of permutations. p is written as `<` where no permutation is as extreme as the data.
    """
    table, baseline_label = escape_table(table), escape_markdown(words.name_predictor(baseline))
    columns = list(dict.fromkeys(table["target"]))
    lines = [f"Accuracy ({accuracy}) on {which}; difference to {baseline_label} with its 95 % interval over videos\n"]
    lines.append("| predictor | seeds | " + " | ".join(columns) + " |")
    lines.append("|---|---|" + "---|" * len(columns))
    for name, rows in _select_predictors(table).groupby("predictor", sort=False):
        lines.append(
            f"| {_label(name)} | {rows['seeds'].iloc[0]} | " + " | ".join(map(_accuracy, rows.itertuples())) + " |"
        )
    for title, score in (("R²", "r2"), ("CCC", "ccc")):
        lines += [f"\n{title}\n", "| predictor | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
        for name, rows in table.groupby("predictor", sort=False):
            cells = map(_format_score, rows[score], rows[f"{score}_seed_std"])
            lines.append(f"| {_label(name)} | " + " | ".join(cells) + " |")
    if (table["predictor"] == CEILING).any():
        lines.append(f"\n{ABOUT}")
    lines.append(f"\n| against {baseline_label} | " + " | ".join(columns) + " |")
    lines.append("|---|" + "---|" * len(columns))
    others = _select_predictors(table[table["predictor"] != baseline])
    for name, rows in others.groupby("predictor", sort=False):
        lines.append(f"| {_label(name)} | " + " | ".join(map(_difference, rows.itertuples())) + " |")
    trained = others[~others["predictor"].map(is_baseline)]
    smallest = (others if trained.empty else trained).groupby("target", sort=False)["smallest"].max()
    lines.append(
        "\np is corrected by Holm over all predictors and, except for the mean, targets; it is written with < where no"
        f" permutation of {resamples} is as extreme. Intervals and p describe these"
        " predictions; other trainings differ by the spread over seeds (±). Smallest difference that these clips detect with"
        " a power of 80 % (at 5 %, not corrected): "
        + ", ".join(f"{target} {value:.4f}" for target, value in smallest.items())
    )
    return "\n".join(lines)


def write(table: pd.DataFrame, baseline: str, accuracy: str, out: Path) -> None:
    """Write out.csv, out.tex (booktabs), out.png and out.pdf."""
    columns = list(dict.fromkeys(table["target"]))
    cells: dict[str, Sequence[str]] = {}
    for name, rows in _select_predictors(table).groupby("predictor", sort=False):
        cells[words.name_predictor(str(name))] = [
            _accuracy(row) + (latex.STAR if row.p_holm < 0.05 else "") for row in rows.itertuples()
        ]
    caption = (
        f"Accuracy ({accuracy}); {latex.STAR} differs from {words.name_predictor(baseline)} (paired permutation test"
        " over videos, 5 %, corrected by Holm over all predictors and, except for the mean, targets)."
    )
    figure = draw_differences(_select_predictors(table[table["predictor"] != baseline]), baseline, accuracy)
    save(table, pd.DataFrame.from_dict(cells, orient="index", columns=columns), caption, figure, out)


def save(table: pd.DataFrame, cells: pd.DataFrame, caption: str, figure: Figure, out: Path) -> None:
    """Write `table` to out.csv, the texts `cells` to out.tex (booktabs), the figure to out.png and out.pdf."""
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    out.with_suffix(".tex").write_text(latex.format_table(cells, caption))
    figure.savefig(out.with_suffix(".png"), dpi=150)
    figure.savefig(out.with_suffix(".pdf"))


def draw_differences(table: pd.DataFrame, baseline: str, accuracy: str) -> Figure:
    """Draw each predictor's gain in accuracy over the baseline with its interval: the mean and the first MOST targets."""
    columns, names = list(dict.fromkeys(table["target"]))[: MOST + 1], list(dict.fromkeys(table["predictor"]))
    figure = Figure(figsize=(max(2.2 * len(columns), 6.5), 1.1 + 0.3 * len(names)), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns), sharey=True, sharex=True), columns, strict=True):
        rows = table[table["target"] == column].set_index("predictor").loc[names]
        reach = np.maximum([rows["difference"] - rows["low"], rows["high"] - rows["difference"]], 0)  # rounding
        axes.errorbar(
            rows["difference"], range(len(names)), xerr=reach, fmt="o", markersize=4, color=COLOURS[0], capsize=2
        )
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set(title=shorten(column), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), map(words.name_predictor, names))
    figure.supxlabel(
        f"accuracy ({accuracy}) minus that of {words.name_predictor(baseline)}; 95 % interval over videos", fontsize=9
    )
    return figure


def describe_marks(seeds: int) -> str:
    """Return what the points and bars of a figure over experiments show, for its title."""
    bars = "bars: 95 % interval over videos"
    return f"points: mean over {seeds} seeds; {bars}" if seeds > 1 else bars


def _select_predictors(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of predictors, without those of the ceilings of R² and CCC."""
    return table[table["predictor"] != CEILING]


def _label(name: Any) -> str:
    return escape_markdown(words.name_predictor(str(name)))


def _accuracy(row: Any) -> str:
    return "–" if np.isnan(row.accuracy) else f"{row.accuracy:.4f}{_spread(row.seed_std, 4)}"


def _format_score(value: float, spread: float) -> str:
    return "–" if np.isnan(value) else f"{value:z.3f}{_spread(spread, 3)}"  # z: no -0


def _spread(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f" ± {value:.{digits}f}"


def _difference(row: Any) -> str:
    if np.isnan(row.difference):
        return "–"
    sign = "< " if words.is_p_at_floor(row) else ""
    return f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}], p {sign}{row.p_holm:.4f}"
