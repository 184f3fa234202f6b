"""The methods section of the paper, as LaTeX: every number comes from the parameters and results of the run."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lib.core.clips import SYNTHETIC
from lib.core.targets import Targets
from lib.report import words
from lib.report.latex import escape
from lib.report.methods_inputs import (
    describe_augmentation,
    describe_streams,
    find_references,
    find_streams,
)
from lib.report.page import PipelineRun
from lib.report.provenance import format_commit, list_versions
from lib.report.verdict import join

CITED_CORPORA = {
    "fiv2": "First Impressions V2 \\cite{ponce2016,escalante2020}",
    "mosei": "CMU-MOSEI \\cite{zadeh2018}",
    "table": "our own corpus",
    "vlogs": "YouTube Personality \\cite{biel2013,biel2013words}",
} | dict.fromkeys(SYNTHETIC, "a rendered demonstration corpus with planted labels")
"""Name of each corpus in the paper, with LaTeX citations."""

_OPTIMIZERS = {
    "adamw": r"AdamW \cite{loshchilov2019}",
    "nadam": "NAdam with decoupled weight decay",
    "sgd": "stochastic gradient descent with momentum",
    "adafactor": "Adafactor",
}


def describe_methods(run: PipelineRun, targets: Targets, comparisons: pd.DataFrame) -> str:
    """Return the paragraphs of the section. targets: the predicted groups; comparisons: table of data/comparisons.csv."""
    model = run.parameters["model"]
    references = find_references(model)
    streams = {reference.partition(".")[0] for reference in references}
    paragraphs = {
        "Data": _describe_data(run, targets),
        "Preprocessing": describe_streams(run.parameters, references),
        "Model": _describe_model(run, targets),
        "Training": _describe_training(run, targets, streams),
        "Baselines": _describe_baselines(comparisons),
        "Evaluation": _describe_evaluation(run, comparisons),
        "Attribution": _describe_analyses(run.parameters, find_streams(run.parameters, references)),
        "Reproducibility": _describe_provenance(run),
    }
    texts = {title: "\n".join(sentences) for title, sentences in paragraphs.items()}
    return "\n\n".join(rf"\paragraph{{{title}.}} {text}" for title, text in texts.items() if text)


def _describe_data(run: PipelineRun, targets: Targets) -> Iterator[str]:
    data = run.data
    corpora = join(list(dict.fromkeys(CITED_CORPORA.get(name, escape(name)) for name in data["sources"])))
    yield f"We used {corpora}: {data['usable']} of {data['annotated']} annotated clips ({data['hours']:g} hours)."
    yield f"The split is {escape(data['split'])}: {words.count_clips(data)}."
    yield from map(escape, words.describe_scored_clips(data, run.split))
    for name, group in targets.items():
        yield f"Targets ({escape(name)}) are {escape(join(group.columns))}, on a scale from {words.format_range(group)}."


def _describe_model(run: PipelineRun, targets: Targets) -> Iterator[str]:
    model = run.parameters["model"]
    yield f"The model has {escape(words.describe_encoders(model).replace('`', ''))}"
    for name in model["use"]:
        encoder = model["encoders"][name]
        if encoder.get("take") == "parts":
            yield f"Encoder {escape(name)} takes one step from each of {encoder['steps']} equal parts of the clip."
        elif encoder.get("take") == "window":
            yield f"Encoder {escape(name)} takes {encoder['steps']} consecutive steps of the clip."
    if len(model["use"]) > 1:
        yield f"All encoders' tokens are projected to width {model['width']}."
        if model["fusion"] == "cross_attention":
            yield (
                f"Cross-attention \\cite{{vaswani2017}} has {model['heads']} heads and {model['depth']}"
                f" {'block' if model['depth'] == 1 else 'blocks'}; dropout is {model['dropout']:g}."
            )
    heads = (f"{escape(group.head)} for {escape(name)}" for name, group in targets.items())
    yield f"Heads: {', '.join(heads)}."
    if weights := run.provenance.get("weights"):
        yield f"The network has {weights / 1e6:.2f} million parameters."


def _describe_training(run: PipelineRun, targets: Targets, streams: set[str]) -> Iterator[str]:
    train = run.parameters["train"]
    losses = ", ".join(f"{group.loss} for {name}" for name, group in targets.items())
    name, rates = train["optimizer"], train["learning_rate"]
    optimizer = _OPTIMIZERS.get(name, escape(name))
    yield (
        f"The loss was {escape(losses)}. We trained with {optimizer}, batches of {train['batch_size']}"
        f" clips, a learning rate of {rates.get('head', rates['default']):g} outside the encoders, and weight decay"
        f" {train['weight_decay']:g}, for up to {train['epochs']} epochs."
    )
    if train["patience"]:
        yield f"Training stops after {train['patience']} epochs without a lower validation loss."
    yield f"We kept the weights of the epoch with the lowest validation loss (seed {train['seed']})."
    yield from describe_augmentation(train["augment"], streams)


def _describe_baselines(comparisons: pd.DataFrame) -> Iterator[str]:
    baselines = dict.fromkeys(comparisons["predictor"])
    if baselines:
        described = (f"{words.name_predictor(name)} ({words.describe_predictor(name)})" for name in baselines)
        yield f"Baselines: {escape('; '.join(described))}."


def _describe_evaluation(run: PipelineRun, comparisons: pd.DataFrame) -> Iterator[str]:
    resamples = run.parameters["evaluate"]["resamples"]
    yield f"Intervals (95 \\%) are percentile bootstraps over videos \\cite{{efron1993}} with {resamples} resamples."
    tested = comparisons[comparisons["p_holm"].notna() & (comparisons["subset"] == "all")]
    counts = [
        f"{number} {'hypothesis' if number == 1 else 'hypotheses'} {what}"
        for what, number in (
            ("on means over targets", int((tested["target"] == "mean").sum())),
            ("on single targets", int((tested["target"] != "mean").sum())),
        )
        if number
    ]
    if counts:
        yield (
            f"The model and each baseline were compared by paired permutation tests over videos with {resamples}"
            f" permutations. Holm's method \\cite{{holm1979}} corrected p-values within each of these families, on all"
            f" clips: {' and '.join(counts)}."
        )


def _describe_analyses(parameters: Mapping[str, Any], streams: set[str]) -> Iterator[str]:
    model, analyse = parameters["model"], parameters["analyse"]
    if analyse["control_clips"]:
        yield (
            "Input ablations replace a stream by another clip's (permutation importance, \\cite{breiman2001}), shuffle its"
            " steps, or freeze it."
        )
    if analyse["importance_clips"]:
        yield "Attribution uses occlusion \\cite{zeiler2014} and integrated gradients \\cite{sundararajan2017}."
    if analyse["attention_clips"] and model["fusion"] == "cross_attention" and len(model["use"]) > 1:
        yield (
            "Attention maps were compared with those of a network with shuffled weights \\cite{adebayo2018}; attention is"
            " not attribution \\cite{jain2019}."
        )
    if analyse["robustness_clips"] and "faces" in streams:
        yield "Robustness was measured on corrupted faces \\cite{hendrycks2019}, without retraining."


def _describe_provenance(run: PipelineRun) -> Iterator[str]:
    commit = run.provenance["commit"]
    version = "Trained without git" if commit is None else f"Trained at commit {format_commit(commit, 12)}"
    yield f"{version}, on {escape(run.provenance['hardware'])}; {escape(list_versions(run.provenance))}."
    yield "Model card \\cite{mitchell2019} and data sheet \\cite{gebru2021} accompany the code."
