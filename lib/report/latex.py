"""What a paper takes: tables (booktabs) and the figures' captions as LaTeX."""

import re
from collections.abc import Mapping

import pandas as pd

from lib.core.targets import TargetGroup
from lib.report import words
from lib.scoring.scores import MIN_VIDEOS

_SIGNS = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$", "−": "$-$", "²": "$^2$", "×": r"$\times$"}
_MACRO = r"""% \input this file, then \caption{\figurecaption{traits/headline}} below \includegraphics{pdf/traits/headline}
\newcommand{\figurecaption}[1]{\csname figurecaption:#1\endcsname}
"""


def escape(text: str) -> str:
    """Return the text as LaTeX; dollars stay what they are to it."""
    for sign, command in _SIGNS.items():
        text = text.replace(sign, command)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text)  # of negative numbers


def table(cells: pd.DataFrame, caption: str) -> str:
    """Return a table of texts, rows' names first."""
    latex = cells.map(escape).rename(escape, axis=0).rename(escape, axis=1)
    text = latex.to_latex(caption=escape(caption), column_format="l" + "r" * cells.shape[1], position="t")
    return str(text).replace(r"\begin{tabular}", "\\footnotesize\n\\begin{tabular}")


def headline(scores: pd.DataFrame, group: TargetGroup, split: str) -> str:
    """Return the headline's table of a target group's rows of data/scores.csv, mean over targets."""
    cells: dict[str, dict[str, str]] = {}
    means, counts = scores[scores["target"] == "mean"], []
    for subset, which in (("all", ""), ("unseen_videos", ", unseen videos")):
        of_subset = means[means["subset"] == subset]
        counts += [f"{row.clips} clips of {row.videos} videos{which}" for row in of_subset.head(1).itertuples()]
        for score, (label, digits) in words.headline_scores(group).items():
            rows = of_subset[of_subset["score"] == score].set_index("predictor")
            for name, short in words.rivals(rows.index).items():
                cells.setdefault(short.removeprefix("the "), {})[label + which] = words.text(rows.loc[name], digits)
    about = (
        f"Mean over {', '.join(group.columns)}; {split} split, {'; '.join(counts)}. 95 % intervals by bootstrap over videos,"
        f" from {MIN_VIDEOS} videos on."
    )
    return table(pd.DataFrame.from_dict(cells, orient="index"), about)


def captions(of: Mapping[str, str]) -> str:
    """Return macros of the figures' captions, by the figure's path below plots/pdf without its suffix."""
    lines = (rf"\expandafter\def\csname figurecaption:{name}\endcsname{{{escape(text)}}}" for name, text in of.items())
    return _MACRO + "\n".join(lines) + "\n"
