"""A draft of a paper, as LaTeX, with the methods and results of the run. Authors add the question and the conclusions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from lib.core.targets import Targets
from lib.report.citations import find_cited, format_items
from lib.report.discussion import describe_ethics, describe_limitations
from lib.report.latex import escape
from lib.report.methods import describe_methods
from lib.report.page import PipelineRun

_BEGIN = r"""% Written by the pipeline; copy plots/ before you edit it. In plots/paper, twice: pdflatex paper
\documentclass[10pt,twocolumn]{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,textwidth=7.2in,columnsep=0.2in,vmargin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\extrafloats{100}
\input{../captions}
\makeatletter  % a table over both columns, in small print
\newcommand{\overboth}{\let\@float\@dblfloat\let\end@float\end@dblfloat\let\footnotesize\scriptsize\setlength{\tabcolsep}{2pt}}
\makeatother
\title{To fill in: the finding in one sentence}
\author{To fill in: authors}
\date{}
\begin{document}
\maketitle
\begin{abstract}
To fill in: question, method, result, meaning.
\end{abstract}
"""
_INTRODUCTION = r"""\section{Introduction}
To fill in: the question, why it matters, and what is new."""
_RELATED = r"""\section{Related work}
To fill in: compare with the closest work. Apparent personality from video: \cite{ponce2016,escalante2020}. Fusion by
attention: \cite{vaswani2017}. Explanations and their limits: \cite{sundararajan2017,adebayo2018,jain2019}."""
_DISCUSSION = r"""\section{Discussion}
To fill in: what the results mean."""
_DRAFTED = "To check: the pipeline drafted this from the data sheet."
_ABLATION = r"""% tools.ablate and tools.compare write these tables
\IfFileExists{../ablation.tex}{\begingroup\overboth\input{../ablation}\endgroup}{}
\IfFileExists{../comparison.tex}{\begingroup\overboth\input{../comparison}\endgroup}{}"""
_SENTENCES = {
    "headline": "compares the model with its baselines, on all clips and on unseen videos.",
    "predicted_against_actual": "shows predictions against labels.",
    "scores_by_split": "shows the scores of each split.",
    "controls": "shows how accuracy changes when an input is swapped, shuffled or frozen.",
    "importance_on_the_face": "shows on which regions of the face predictions depend.",
    "robustness": "shows the loss of accuracy under corruptions.",
    "mean_attention": "shows mean attention, and that of a network with shuffled weights.",
    "probes": "shows how well a linear probe predicts each target from each encoder.",
}
"""Figures of the paper's body in order, with the sentence that cites each figure."""
BODY = 8
"""Largest number of figures in the body; all others go to the appendix."""


class PaperFigure(NamedTuple):
    """A figure: its path below plots/pdf without suffix, and whether it takes two columns."""

    name: str
    wide: bool


def make_paper(
    figures: Sequence[PaperFigure],
    headlines: Mapping[str, Sequence[str]],
    run: PipelineRun,
    targets: Targets,
    comparisons: pd.DataFrame,
    groups: pd.DataFrame,
) -> str:
    """Return the text of plots/paper/paper.tex.

    headlines: sentences of the report's headline by target group. targets: the predicted groups. comparisons,
    groups: tables of data/comparisons.csv and data/group_scores.csv.
    """
    body, appendix = _arrange(figures)
    results = [
        rf"\paragraph{{{escape(name.capitalize())}.}} {escape(' '.join(text))}" for name, text in headlines.items()
    ]
    results += [rf"Tables~\ref{{tab:{name}}} and~\ref{{tab:{name}_targets}} give the scores." for name in headlines]
    results.append(" ".join(rf"Figure~\ref{{fig:{figure.name}}} {_SENTENCES[_find_title(figure)]}" for figure in body))
    if appendix:
        results.append(r"Appendix~\ref{sec:figures} has further figures.")
    tables = [
        rf"\begingroup\overboth\input{{../tables/{name}{kind}}}\endgroup"
        for name in headlines
        for kind in ("", "_targets")
    ]
    parts = [
        _BEGIN + _INTRODUCTION,
        _RELATED,
        "\\section{Methods}\n" + describe_methods(run, targets, comparisons),
        "\\section{Results}\n" + "\n\n".join(results),
        _ABLATION,
        *tables,
        *map(_include, body),
        _DISCUSSION,
        f"\\section{{Limitations}}\n{_DRAFTED} {describe_limitations(run, targets, groups)}",
        f"\\section{{Ethics}}\n{_DRAFTED} {describe_ethics(run)}",
    ]
    if appendix:
        parts += ["\\clearpage\n\\appendix\n\\section{Further figures}\\label{sec:figures}", *map(_include, appendix)]
    items = format_items(find_cited("\n".join(parts)))
    bibliography = f"\\clearpage\n\\begin{{thebibliography}}{{99}}\n{items}\n\\end{{thebibliography}}"
    return "\n\n".join([*parts, bibliography, "\\end{document}\n"])


def _arrange(figures: Sequence[PaperFigure]) -> tuple[list[PaperFigure], list[PaperFigure]]:
    """Return the figures of the body (up to BODY, in the order of _SENTENCES), and those of the appendix."""
    order = list(_SENTENCES)
    candidates = [figure for figure in figures if _find_title(figure) in _SENTENCES]
    body = sorted(candidates, key=lambda figure: order.index(_find_title(figure)))[:BODY]
    return body, [figure for figure in figures if figure not in body]


def _find_title(figure: PaperFigure) -> str:
    return figure.name.rpartition("/")[2]


def _include(figure: PaperFigure) -> str:
    kind, width = ("figure*", r"\textwidth") if figure.wide else ("figure", r"\columnwidth")
    return (
        rf"\begin{{{kind}}}[t]\centering\includegraphics[width={width}]{{../pdf/{figure.name}}}" + "\n"
        rf"\caption{{\figurecaption{{{figure.name}}}}}\label{{fig:{figure.name}}}\end{{{kind}}}"
    )
