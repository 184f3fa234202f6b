"""Tables (booktabs) and figure captions as LaTeX."""

import re
from collections.abc import Mapping

import pandas as pd

from lib.core.targets import TargetGroup
from lib.report import words
from lib.scoring.bootstrap import MIN_VIDEOS
from lib.scoring.ceilings import CEILING

STAR = "⁎"
"""The mark of a significant difference."""
_SIGNS = str.maketrans(
    {sign: f"\\{sign}" for sign in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$"}
    | {"±": r"$\pm$", "−": "$-$", "²": "$^2$", "×": r"$\times$", STAR: "$^*$"}
)
_MACRO = r"""% \input this file, then \caption{\figurecaption{traits/headline}} below \includegraphics{pdf/traits/headline}
\newcommand{\figurecaption}[1]{\csname figurecaption:#1\endcsname}
"""


def escape(text: str) -> str:
    """Return the text as LaTeX, with special characters escaped."""
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text.translate(_SIGNS))  # minus signs of negative numbers


def format_table(cells: pd.DataFrame, caption: str, label: str | None = None) -> str:
    """Return a LaTeX table of text cells, with the row names in its first column."""
    latex = cells.map(escape).rename(escape, axis=0).rename(escape, axis=1)
    columns = "l" + "r" * cells.shape[1]
    text = latex.to_latex(caption=escape(caption), label=label, column_format=columns, position="t")
    return str(text).replace(r"\begin{tabular}", "\\footnotesize\n\\begin{tabular}")


def tabulate_headline(scores: pd.DataFrame, group: TargetGroup, split: str, label: str | None = None) -> str:
    """Return a table of the headline's predictors and scores (means over targets), given a target group's rows of
    data/scores.csv."""
    cells: dict[str, dict[str, str]] = {}
    bounds: dict[str, str] = {}
    means, counts = scores[scores["target"] == "mean"], []
    for subset, subset_title in words.list_headline_subsets(scores).items():
        which = "" if subset == "all" else f", {subset_title}"
        of_subset = means[means["subset"] == subset]
        counts += [f"{row.clips} clips of {row.videos} videos{which}" for row in of_subset.head(1).itertuples()]
        for score, (title, digits) in words.list_headline_scores(group).items():
            rows = of_subset[of_subset["score"] == score].set_index("predictor")
            for name, short in words.select_headline_predictors(rows.index).items():
                cells.setdefault(short, {})[title + which] = words.format_value(rows.loc[name], digits)
            if CEILING in rows.index:
                bounds[title + which] = words.format_value(rows.loc[CEILING], digits)
    if bounds:
        cells[words.name_predictor(CEILING)] = bounds
    caption = (
        f"Mean over {', '.join(group.columns)}; {split} split, {'; '.join(counts)}. Brackets: 95 % intervals by bootstrap"
        f" over videos, from {MIN_VIDEOS} videos on. {words.describe_weighting(scores)}".rstrip()
    )
    return format_table(pd.DataFrame.from_dict(cells, orient="index").fillna("–"), caption, label)


def tabulate_targets(scores: pd.DataFrame, group: TargetGroup, split: str, label: str | None = None) -> str:
    """Return a table of each target's scores on all clips: the model's, then the accuracy of the headline's baselines."""
    rows = scores[scores["subset"] == "all"]
    columns = {title: ("model", score) for score, (title, _) in words.list_headline_scores(group).items()}
    baselines = [name for name in words.select_headline_predictors(rows["predictor"].unique()) if name != "model"]
    columns |= {words.name_predictor(name): (name, "accuracy") for name in baselines}
    cells = {}
    for title, (predictor, score) in columns.items():
        chosen = rows[(rows["predictor"] == predictor) & (rows["score"] == score)]
        cells[title] = {row.target: words.format_value(row) for row in chosen.itertuples()}
    for title, score in (("R²", "r2"), ("CCC", "ccc")):
        bounds = rows[(rows["predictor"] == CEILING) & (rows["score"] == score)]
        if len(bounds):
            cells[f"ceiling of {title}"] = {row.target: words.format_value(row) for row in bounds.itertuples()}
    caption = (
        f"Scores of the model by target, and the accuracy ({words.name_accuracy(group)}) of baselines; {split} split, all"
        f" clips. Brackets: 95 % intervals by bootstrap over videos, from {MIN_VIDEOS} videos on."
    )
    caption = f"{caption} {words.describe_weighting(scores)}".rstrip()
    return format_table(pd.DataFrame(cells).loc[["mean", *group.columns]].fillna("–"), caption, label)


def format_captions(texts: Mapping[str, str]) -> str:
    """Return macros for the figures' captions. The keys are paths below plots/pdf without suffix."""
    lines = (
        rf"\expandafter\def\csname figurecaption:{name}\endcsname{{{escape(text)}}}" for name, text in texts.items()
    )
    return _MACRO + "\n".join(lines) + "\n"
