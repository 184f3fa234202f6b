"""Import all corpora, verify and split their clips, and write the outputs of the stage `download`."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from lib.core import resume
from lib.core.artifacts import CLIPS, CUES, DATA_METRICS, DOWNLOAD_METRICS, GROUPS, RAW
from lib.core.clips import NO_ANNOTATION, NO_FILE, SPLITS, column_names, describe_left_out, describe_origins
from lib.core.errors import InputError, SettingError
from lib.core.persons import find_groups
from lib.sources import _across, _check, _cues, _persons, _split
from lib.sources._check import Corpus
from lib.sources._import import import_corpus, write_file
from lib.sources.settings import Download, Group

_SCORE_THEM = " To score the corpus' test split, set download.split to official"


def download(
    settings: Download, scored: Mapping[str, Sequence[str]] = MappingProxyType({}), fairness_group: str | None = None
) -> None:
    """Write data/raw/, data/clips.csv, data/groups.csv, data/cues.csv and the metrics according to the section `download`.

    scored: columns by corpus (`find_scored`). fairness_group: column of data/groups.csv that training needs; None for none.
    Raises SettingError if the column is missing, or if the training clips have one group only. Raises InputError, and leaves
    data/ unchanged, if a corpus of `scored` has no label, or if a larger fraction of clips than `allow_missing` is missing
    or rejected.
    """
    began = time.monotonic()
    corpora = [import_corpus(name, settings) for name in dict.fromkeys(settings.sources)]
    limits = settings.min_seconds, settings.min_frames, settings.max_seconds, settings.max_damaged
    table = _check.build_clip_table(corpora, settings.videos, *limits)
    _across.require_labels(table, scored)
    is_usable = table["reason"] == ""
    groups = _persons.read_groups(
        [corpus.folder / file for corpus in corpora for file in corpus.files],
        table["clip"][is_usable],
        {pattern: codes for corpus in corpora for pattern, codes in corpus.source.GROUPS.items()},
        table["clip"][~is_usable],
    )
    cues = _cues.read_cues(
        [corpus.folder / file for corpus in corpora for file in corpus.files],
        table["clip"][is_usable],
        [name for name in table if name not in column_names([])],
        table["clip"][~is_usable],
    )
    corpus_split = table["split"]
    table["split"] = assign_splits(table, groups, settings)
    if fairness_group is not None:
        training = table.loc[is_usable & (table["split"] == "training"), "clip"]
        find_groups(groups.set_index("clip"), training, fairness_group)
    summary = summarise(corpora, table, corpus_split, groups, settings)
    print_summary(summary)
    check_missing_fraction(table, summary, settings.allow_missing)
    resume.publish(
        [(corpus.folder / file, Path(corpus.name, file)) for corpus in corpora for file in corpus.files], RAW
    )
    write_file(CLIPS, table.to_csv(index=False))
    write_file(GROUPS, groups.to_csv(index=False))
    write_file(CUES, cues.to_csv(index=False))
    write_file(DATA_METRICS, json.dumps(summary, indent=2) + "\n")
    write_file(DOWNLOAD_METRICS, json.dumps({"seconds": round(time.monotonic() - began, 1)}) + "\n")


def summarise(
    corpora: list[Corpus], table: pd.DataFrame, corpus_split: pd.Series, groups: pd.DataFrame, settings: Download
) -> dict[str, Any]:
    """Return the figures for metrics/data.json. corpus_split: the split that the corpus itself gives each clip."""
    sources = [corpus.name for corpus in corpora]
    summary = {"sources": sources, "split": settings.split} | _check.summary(table, corpus_split, settings.held_out)
    if settings.split == "group_out":
        summary["group"] = settings.group.model_dump()
    if checked := dict(check_annotation_files(corpora)):
        summary["annotation_files"] = checked
    for kind in groups.columns[1:]:
        summary.setdefault("groups", {})[kind] = groups[kind].value_counts().sort_index().to_dict()
    return summary


def check_missing_fraction(table: pd.DataFrame, summary: Mapping[str, Any], allowed: float) -> None:
    """Raise InputError if a larger fraction of the annotated clips than `allowed` is not usable.

    The table is saved first, so that the user can read the reasons.
    """
    lost = 1 - summary["usable"] / summary["annotated"]
    if lost > allowed:
        table.to_csv(resume.ROOT / "clips.csv", index=False)
        reasons = f"{summary['rejected']}{_check.show_unmatched(table)}"
        raise InputError(
            f"{lost:.2%} of the annotated clips are missing or rejected ({reasons});"
            f" download.allow_missing allows {allowed:.2%}. Each clip's reason is in"
            f" {resume.ROOT / 'clips.csv'}: repair the clips, or raise download.allow_missing. Unpacked files stay cached"
        )


def assign_splits(table: pd.DataFrame, groups: pd.DataFrame, settings: Download) -> pd.Series:
    """Return the split of each clip. The usable clips of each corpus are split according to the settings.

    Clips of a corpus in `held_out` are in no split.
    """
    fractions = None if settings.split_fractions is None else tuple(settings.split_fractions)
    split_settings = _split.SplitSettings(settings.split_seed, settings.folds, settings.fold, fractions)
    split_settings = split_settings._replace(inner_folds=settings.inner_folds, inner_fold=settings.inner_fold)
    if settings.split == "group_out":
        group_of_clip = find_groups_of_clips(groups, settings.group)
        split_settings = split_settings._replace(groups=group_of_clip.to_dict(), tested=settings.group.value)
    result = table["split"].copy()
    for corpus, usable in table[table["reason"] == ""].groupby("corpus"):
        if corpus in settings.held_out:
            result[usable.index] = ""
            continue
        split = _split.SPLITTERS[settings.split](usable, split_settings)
        if settings.inner_folds:
            split = _split.hold_out_inner_fold(usable, split, split_settings)
        result[usable.index] = split
    return result


def find_groups_of_clips(groups: pd.DataFrame, group: Group) -> pd.Series:
    """Return the group of each clip's person, indexed by clip; clips of unknown group are left out.

    Raises InputError if the groups have no such column or value.
    """
    columns = list(groups.columns[1:])
    if group.column not in columns:
        raise SettingError(
            f"download.group.column = {group.column!r} with download.split = group_out; allowed: a column of"
            f" groups of persons: {', '.join(columns) or 'none is available; add a groups*.csv to data/archives/'}"
        )
    group_of_clip = groups.set_index("clip")[group.column]
    group_of_clip = group_of_clip[group_of_clip != ""]
    if group.value not in set(group_of_clip):
        raise SettingError(
            f"download.group.value = {group.value!r}; allowed: a value of the column {group.column}:"
            f" {', '.join(sorted(set(group_of_clip)))}"
        )
    return group_of_clip


def check_annotation_files(corpora: list[Corpus]) -> Iterator[tuple[str, str]]:
    """Yield each annotation file with a known checksum, and whether its content is as its authors distribute it."""
    for corpus in corpora:
        for name, checksum in corpus.source.CHECKSUMS.items():
            path = corpus.folder / "annotations" / name
            if path.exists():
                yield name, "as distributed" if resume.hash_file(path) == checksum else "not as distributed"


def print_summary(summary: dict[str, Any]) -> None:
    """Print the number of clips, missing and unlabelled files first, then the origin of each split."""
    missing = summary["rejected"].get(NO_FILE, 0)
    unlabelled = summary["rejected"].get(NO_ANNOTATION, 0)
    print(
        f"{summary['annotated']} clips are annotated; {missing} of them have no file."
        f" {unlabelled} files have no annotation. {summary['usable']} clips are usable: {summary['clips']}"
    )
    for reason, count in summary["rejected"].items():
        print(f"  rejected, {reason}: {count}")
    for name, state in summary.get("annotation_files", {}).items():
        print(f"  {name}: {state}")
    for split in SPLITS:
        if origins := describe_origins(summary, split):
            print(f"  {split}: {origins}")
    if left_out := describe_left_out(summary):
        own_splits = {name for of_corpus in summary["origins"].get("none", {}).values() for name in of_corpus}
        print(f"{left_out} They have an empty split in {CLIPS}.{_SCORE_THEM if 'test' in own_splits else ''}")
