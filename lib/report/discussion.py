"""Drafts of the paper's limitations and ethics, as LaTeX, from the data sheet and the results of the run."""

from collections.abc import Iterator

import pandas as pd

from lib.core.clips import SPLITS
from lib.core.targets import Targets
from lib.report import words
from lib.report.corpora import BIASES, USES, find_corpus
from lib.report.latex import escape
from lib.report.page import PipelineRun


def describe_limitations(run: PipelineRun, targets: Targets, groups: pd.DataFrame) -> str:
    """Return the paragraph on limitations. groups: table of data/group_scores.csv."""
    return "\n".join(escape(sentence) for sentence in _list_limitations(run, targets, groups))


def _list_limitations(run: PipelineRun, targets: Targets, groups: pd.DataFrame) -> Iterator[str]:
    yield "Labels are impressions of observers: they do not say what the people are like."
    if run.is_synthetic:
        yield "The clips are rendered, so the scores say nothing about real people."
    shared = run.data["videos_shared_with_training"]
    for split in SPLITS:
        if split == run.split and shared.get(split):
            yield f"Of the {run.data['videos'][split]} videos of the {split} split, {shared[split]} have training clips."
    yield "The corpus does not say which videos show one person, so an unseen video may show a person of the training clips."
    yield from (
        note for target_group in targets.values() if (note := words.note_stability(run.data["sources"], target_group))
    )
    yield from dict.fromkeys(note for target_group in targets.values() if (note := words.note_emotions(target_group)))
    yield words.NO_GROUPS if groups.empty else "Errors were measured by group; annotators judged the groups by sight."
    yield "Intervals describe one trained model; another seed, corpus, language or culture may give other results."


def describe_ethics(run: PipelineRun) -> str:
    """Return the paragraph on ethics: people, consent and distribution of each corpus, and how predictions may be used."""
    sentences = [
        f"{escape(source)}: {escape(part.strip('*'))}"
        for source in run.data["sources"]
        for part in (find_corpus(source).people, find_corpus(source).distribution)
    ]
    return "\n".join(
        [
            *sentences,
            escape(f"{USES} {BIASES}"),
            "To fill in: the approval of your ethics committee, or why none is needed.",
        ]
    )
