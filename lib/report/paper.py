"""A paper to begin from, as LaTeX: what was run and found is there, what must be thought is left to authors."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lib.core.clips import SYNTHETIC
from lib.core.targets import Targets
from lib.report import words
from lib.report.latex import escape

_SOURCES = {
    "zhang2016": "K. Zhang et al. Joint face detection and alignment using multitask cascaded convolutional networks. IEEE"
    " Signal Processing Letters, 2016.",
    "zach2007": "C. Zach, T. Pock, H. Bischof. A duality based approach for realtime TV-L1 optical flow. DAGM, 2007.",
    "chambolle2011": "A. Chambolle, T. Pock. A first-order primal-dual algorithm for convex problems with applications to"
    " imaging. Journal of Mathematical Imaging and Vision, 2011.",
    "vaswani2017": "A. Vaswani et al. Attention is all you need. NeurIPS, 2017.",
    "loshchilov2019": "I. Loshchilov, F. Hutter. Decoupled weight decay regularization. ICLR, 2019.",
    "efron1993": "B. Efron, R. J. Tibshirani. An introduction to the bootstrap. Chapman and Hall, 1993.",
    "holm1979": "S. Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics,"
    " 1979.",
    "ponce2016": "V. Ponce-López et al. ChaLearn LAP 2016: first round challenge on first impressions. ECCV workshops,"
    " 2016.",
    "zadeh2018": "A. Zadeh et al. Multimodal language analysis in the wild: CMU-MOSEI dataset and interpretable dynamic"
    " fusion graph. ACL, 2018.",
}
_CORPORA = {
    "fiv2": "First Impressions V2 \\cite{ponce2016}",
    "mosei": "CMU-MOSEI \\cite{zadeh2018}",
    "table": "our own corpus",
} | dict.fromkeys(SYNTHETIC, "a rendered demonstration corpus whose labels are planted")
_BEGIN = r"""% Written by the pipeline; copy plots/ before you change it. In plots/paper, twice: pdflatex paper
\documentclass[10pt,twocolumn]{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,textwidth=7.2in,columnsep=0.2in,vmargin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\extrafloats{100}
\input{../captions}
\makeatletter  % a table over both columns, in small print
\newcommand{\overboth}{\let\@float\@dblfloat\let\end@float\end@dblfloat\let\footnotesize\scriptsize\setlength{\tabcolsep}{2pt}}
\makeatother
\title{Say what was found}
\author{Say who did it}
\date{}
\begin{document}
\maketitle
\begin{abstract}
Say why, what and what was found.
\end{abstract}
"""


class Included(NamedTuple):
    """A figure: its path below plots/pdf without suffix, and whether it takes two columns."""

    name: str
    wide: bool


def paper(
    figures: Sequence[Included],
    found: Mapping[str, Sequence[str]],
    parameters: Mapping[str, Any],
    data: Mapping[str, Any],
    provenance: Mapping[str, Any],
    targets: Targets,
) -> str:
    """Return plots/paper/paper.tex; `found`: by target group the sentences of the page's headline, `parameters` as in
    params.yaml, `data` as in metrics/data.json, `provenance` as in data/provenance.json, `targets` those predicted."""
    about = methods(parameters, data, provenance, targets)
    results = [rf"\paragraph{{{escape(name.capitalize())}.}} {escape(' '.join(said))}" for name, said in found.items()]
    tables = [rf"\begingroup\overboth\input{{../tables/{name}}}\endgroup" for name in found]
    cited = [rf"\bibitem{{{key}}} {escape(text)}" for key, text in _SOURCES.items() if f"{{{key}}}" in about]
    parts = [
        _BEGIN + "\\section{Introduction}\nSay what is known and what is not.",
        "\\section{Methods}\n" + about,
        "\\section{Results}\n" + "\n\n".join(results),
        *tables,
        *map(_figure, figures),
        "\\section{Discussion}\nSay what it means, and what not: the labels say how others perceived a person.",
        "\\clearpage\n\\begin{thebibliography}{9}\n" + "\n".join(cited) + "\n\\end{thebibliography}",
        "\\end{document}\n",
    ]
    return "\n\n".join(parts)


def methods(
    parameters: Mapping[str, Any], data: Mapping[str, Any], provenance: Mapping[str, Any], targets: Targets
) -> str:
    """Return the paragraph on what was done, as LaTeX."""
    model, train, evaluate = parameters["model"], parameters["train"], parameters["evaluate"]
    read = {one.partition(".")[0] for name in model["use"] for one in model["encoders"][name]["reads"]}
    corpora = " and ".join(dict.fromkeys(_CORPORA.get(name, escape(name)) for name in data["sources"]))
    said = [
        f"We used {corpora}: {data['usable']} of {data['annotated']} annotated clips ({data['hours']:g} hours), split"
        f" {escape(data['split'])}: {words.dealt(data)}."
    ]
    faces = read & {"faces", "flow", "landmarks", "embeddings"}
    if faces or "frames" in read:
        said.append(f"Frames were taken at {parameters['frames']['fps']:g} a second.")
    if faces:
        said.append(
            "The speaker's face was found by MTCNN \\cite{zhang2016} and brought to a template of five points"
            f" ({parameters['faces']['side']} pixels a side) by a similarity transform."
        )
    if "flow" in read:
        flow, ours = parameters["flow"], parameters["flow"]["backend"] == "torch"
        theta = rf" $\theta={flow['theta']:g}$," if ours else ""  # OpenCV has its own
        said.append(
            "Between consecutive faces TV-L1 optical flow \\cite{zach2007} was computed by"
            + (" a primal-dual scheme \\cite{chambolle2011}" if ours else " OpenCV's DualTVL1")
            + rf" ($\lambda={flow['lambda']:g}$,{theta} {flow['scales']} scales, {flow['warps']} warps)."
        )
    if "audio" in read:
        audio = parameters["audio"]
        said.append(
            f"Sound ({audio['sample_rate']} Hz) was read as {audio['mels']} log-mel bands and {audio['mfcc']} MFCC in"
            f" windows of {1000 * audio['window']:g} ms every {1000 * audio['step']:g} ms."
        )
    said.append(escape(words.encoders(model).replace("`", "")))
    if model["fusion"] == "cross_attention" and len(model["use"]) > 1:
        said[-1] += f" Cross-attention \\cite{{vaswani2017}} had {model['heads']} heads and depth {model['depth']}."
    losses = ", ".join(f"{group.loss} for {name}" for name, group in targets.items())
    stop = f", ended after {train['patience']} epochs without a lower validation loss" if train["patience"] else ""
    said.append(
        f"The loss was {escape(losses)}. We trained with AdamW \\cite{{loshchilov2019}}, batches of {train['batch_size']}"
        f" clips, a learning rate of {train['learning_rate']['head']:g} outside the encoders, weight decay"
        f" {train['weight_decay']:g}, for up to {train['epochs']} epochs{stop}, and kept the epoch of the lowest validation"
        f" loss (seed {train['seed']})."
    )
    said.append(
        f"Intervals (95 \\%) are percentile bootstraps over videos \\cite{{efron1993}} with {evaluate['resamples']}"
        " resamples; comparisons are paired permutation tests over videos, corrected by Holm \\cite{holm1979}."
    )
    commit = provenance["commit"]
    at = "Trained without git" if commit is None else f"Trained at commit {words.at_commit(commit, 12)}"
    versions = words.versions(provenance)
    said.append(f"{at}, on {escape(provenance['hardware'])}; {escape(versions)}.")
    return "\n".join(said)


def _figure(one: Included) -> str:
    kind, width = ("figure*", r"\textwidth") if one.wide else ("figure", r"\columnwidth")
    return (
        rf"\begin{{{kind}}}[t]\centering\includegraphics[width={width}]{{../pdf/{one.name}}}" + "\n"
        rf"\caption{{\figurecaption{{{one.name}}}}}\label{{fig:{one.name}}}\end{{{kind}}}"
    )
