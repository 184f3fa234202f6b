"""Bring in all corpora, verify and split their clips, and write what the stage `download` publishes."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, create_model
from tqdm import tqdm

from lib.core import resume
from lib.core.artifacts import ARCHIVES, CLIPS, DATA_METRICS, DOWNLOAD_METRICS, GROUPS, RAW
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.sources import base, check, listing, persons, split
from lib.sources.check import Corpus
from lib.sources.fetch import fetch

MADE_OF = "made_of.json"
"""Below data/raw/CORPUS/: the archives and settings that it was made of."""


MAX_SECONDS = 24 * 3600


class Url(Section):
    url: str
    sha256: str | None


class Group(Section):
    """A group of persons: a column of data/groups.csv and one of its values."""

    column: str
    value: str


class Download(Section):
    """What all sources have in common; a section for each of them comes to it."""

    sources: Annotated[list[str], Field(min_length=1)]
    videos: bool
    split: Literal[*split.SPLITTERS]  # type: ignore[valid-type]
    group: Group
    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    split_fractions: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=3, max_length=3)] | None
    folds: Annotated[int, Field(ge=3, le=1000)]
    fold: Annotated[int, Field(ge=0, le=999)]
    allow_missing: Annotated[float, Field(ge=0, le=1)]
    min_seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)]
    min_frames: Annotated[int, Field(ge=2, le=10_000_000)]
    max_seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)]
    max_damaged: Annotated[float, Field(ge=0, le=1)]
    urls: dict[str, Url]


def _section(settings: type[Section]) -> tuple[type[Section], Any]:
    """A source that has nothing to be set needs no section."""
    return settings, (... if settings.model_fields else settings())


_SECTIONS: dict[str, Any] = {name: _section(base.load(name).Settings) for name in base.names()}
Complete = create_model("Complete", __base__=Download, **_SECTIONS)


class Parameters(Section):
    download: Complete  # type: ignore[valid-type]


def check_targets(parameters: Mapping[str, Any], settings: Download) -> None:
    """Check in the complete parameters that a source of `settings` has each column of model.targets.

    Raises InputError for the first column that none has. Groups that are not known are left to the checks of their sections.
    """
    columns = [
        column for name in settings.sources for column in base.load(name).columns(getattr(settings, name, Section()))
    ]
    for name in parameters["model"]["targets"]:
        wanted = parameters["targets"].get(name, {}).get("columns", [])
        if missing := [column for column in wanted if column not in columns]:
            raise InputError(
                f"params.yaml: targets.{name}.columns has {missing[0]!r}, which no source of download.sources ="
                f" {settings.sources} has; allowed: {', '.join(dict.fromkeys(columns))}; correct the columns, or take"
                f" {name} out of model.targets"
            )


def download(settings: Download) -> None:
    """Write data/raw/, data/clips.csv, data/groups.csv and the metrics as the section `download` says.

    Raises InputError if more clips than `allow_missing` are missing or rejected; data/ is as before then.
    """
    began = time.monotonic()
    corpora = [bring_corpus(name, settings) for name in dict.fromkeys(settings.sources)]
    limits = settings.min_seconds, settings.min_frames, settings.max_seconds, settings.max_damaged
    table = check.clip_table(corpora, settings.videos, *limits)
    is_usable = table["reason"] == ""
    groups = persons.read_groups(
        [corpus.folder / file for corpus in corpora for file in corpus.files],
        table["clip"][is_usable],
        {pattern: codes for corpus in corpora for pattern, codes in corpus.source.GROUPS.items()},
        table["clip"][~is_usable],
    )
    table["split"] = assign_splits(table, groups, settings)
    summary = summarise(corpora, table, groups, settings)
    report(summary)
    refuse_if_too_many_are_lost(table, summary, settings.allow_missing)
    resume.publish(
        [(corpus.folder / file, Path(corpus.name, file)) for corpus in corpora for file in corpus.files], RAW
    )
    write(CLIPS, table.to_csv(index=False))
    write(GROUPS, groups.to_csv(index=False))
    write(DATA_METRICS, json.dumps(summary, indent=2) + "\n")
    write(DOWNLOAD_METRICS, json.dumps({"seconds": round(time.monotonic() - began, 1)}) + "\n")


def summarise(corpora: list[Corpus], table: pd.DataFrame, groups: pd.DataFrame, settings: Download) -> dict[str, Any]:
    """Return the figures for metrics/data.json."""
    summary = {"sources": [corpus.name for corpus in corpora], "split": settings.split} | check.summary(table)
    if settings.split == "group_out":
        summary["group"] = settings.group.model_dump()
    if checked := dict(annotation_files(corpora)):
        summary["annotation_files"] = checked
    for kind in groups.columns[1:]:
        summary.setdefault("groups", {})[kind] = groups[kind].value_counts().sort_index().to_dict()
    return summary


def refuse_if_too_many_are_lost(table: pd.DataFrame, summary: Mapping[str, Any], allowed: float) -> None:
    """Raise InputError if a larger fraction of the annotated clips than `allowed` is not usable; the table is kept."""
    lost = 1 - summary["usable"] / summary["annotated"]
    if lost > allowed:
        table.to_csv(resume.ROOT / "clips.csv", index=False)
        raise InputError(
            f"{lost:.2%} of the annotated clips are missing or refused ({summary['refused']}; each clip's reason is in"
            f" {resume.ROOT / 'clips.csv'}); download.allow_missing in params.yaml allows {allowed:.2%}."
            " What was unpacked is kept"
        )


def bring_corpus(name: str, settings: Download) -> Corpus:
    """Bring a source's files in and read its labels.

    Where archives that were there are gone, what data/raw/ holds of them is taken.
    """
    source, own = base.load(name), getattr(settings, name)
    folder = resume.ROOT / f"download-{name}"
    made_of: dict[str, Any] = {"settings": own.model_dump(), "videos": settings.videos}
    if source.ARCHIVES:
        listed = listing.read(listing.LISTING)
        made_of |= {
            "archives": {path: file.sha256 for path, file in sorted(listed.items())},
            "urls": sorted(settings.urls),
        }
        gone = listing.missing(ARCHIVES, listed, settings.urls)
        gone += [url for url in settings.urls if not (ARCHIVES / url).exists() and url not in gone]
        if gone and is_made_of(RAW / name, made_of):
            print(f"{ARCHIVES}/ lacks {len(gone)} files ({gone[0]}, ...): {RAW / name}/, made of them, is taken")
            folder = RAW / name
        else:
            have_archives(settings.urls, listed, gone)
    if folder != RAW / name:
        folder.mkdir(parents=True, exist_ok=True)
        brought = source.bring(own, ARCHIVES, folder, settings.videos)
        files = sorted(set(tqdm(brought, desc=f"unpack {name}", unit="file", disable=None)))
        if source.ARCHIVES:
            write(folder / MADE_OF, json.dumps(made_of, indent=2) + "\n")
            files.append(Path(MADE_OF))
    else:
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return Corpus(name, source, folder, files, source.rows(own, folder, files))


def is_made_of(folder: Path, wanted: dict[str, Any]) -> bool:
    """Tell whether `folder` was made of these archives and settings."""
    path = folder / MADE_OF
    return path.exists() and json.loads(path.read_text()) == wanted


def have_archives(urls: dict[str, Url], listed: dict[str, listing.File], gone: list[str]) -> None:
    """Fetch what `urls` names of the files that are gone. Raises InputError if others are, or nothing is there."""
    for name in gone:
        if name in urls:
            if Path(name).name != name:
                raise InputError(f"params.yaml: download.urls has {name!r}; allowed: a plain file name")
            fetch(urls[name].url, ARCHIVES / name, urls[name].sha256)
    if lacking := [name for name in gone if name not in urls]:
        raise InputError(
            f"{ARCHIVES}/ lacks {len(lacking)} files that {listing.LISTING} lists ({', '.join(lacking[:3])}), and {RAW}/ was"
            f" not made of just these; put them back, or bring {RAW}/ back by `dvc pull`, or list what is there:"
            f" {listing.COMMAND}. Nothing was changed"
        )
    if not listed and not urls:
        raise InputError(
            f"download.sources needs {ARCHIVES}/, and {ARCHIVES}/ is empty; put or link your archives or unpacked folders"
            f" there ({ARCHIVES}/README.md tells which) and list them ({listing.COMMAND}), or name their URLs under"
            " download.urls in params.yaml"
        )


def assign_splits(table: pd.DataFrame, groups: pd.DataFrame, settings: Download) -> pd.Series:
    """Return the split of each clip; the usable clips of each corpus are assigned as the settings say."""
    fractions = None if settings.split_fractions is None else tuple(settings.split_fractions)
    dealing = split.Dealing(settings.split_seed, settings.folds, settings.fold, fractions)
    if settings.split == "group_out":
        known = known_groups(groups, settings.group)
        dealing = dealing._replace(groups=known.to_dict(), tested=settings.group.value)
    result = table["split"].copy()
    for _, usable in table[table["reason"] == ""].groupby("corpus"):
        result[usable.index] = split.SPLITTERS[settings.split](usable, dealing)
    return result


def known_groups(groups: pd.DataFrame, group: Group) -> pd.Series:
    """Return by clip the group of its person, without clips whose group is unknown.

    Raises InputError if there is no such column or value.
    """
    columns = list(groups.columns[1:])
    if group.column not in columns:
        raise InputError(
            f"params.yaml: download.group.column = {group.column!r} with download.split = group_out; allowed: a column of"
            f" groups of persons: {', '.join(columns) or 'there are none; add a groups*.csv to data/archives/'}"
        )
    of_clip = groups.set_index("clip")[group.column]
    of_clip = of_clip[of_clip != ""]
    if group.value not in set(of_clip):
        raise InputError(
            f"params.yaml: download.group.value = {group.value!r}; allowed: a value of the column {group.column}:"
            f" {', '.join(sorted(set(of_clip)))}"
        )
    return of_clip


def annotation_files(corpora: list[Corpus]) -> Iterator[tuple[str, str]]:
    """Yield the names of annotation files whose checksums are known, and whether they are so."""
    for corpus in corpora:
        for name, known in corpus.source.CHECKSUMS.items():
            path = corpus.folder / "annotations" / name
            if path.exists():
                yield name, "as distributed" if resume.hash_file(path) == known else "not as distributed"


def write(path: Path, text: str) -> None:
    """Write a new file: the old one may be linked to DVC's cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)


def report(summary: dict[str, Any]) -> None:
    """Print what was found, missing files and unlabelled ones first."""
    missing = summary["refused"].get(check.NO_FILE, 0)
    unlabelled = summary["refused"].get(check.NO_ANNOTATION, 0)
    print(
        f"{summary['annotated']} clips are annotated; {missing} of them have no file."
        f" {unlabelled} files have no annotation. {summary['usable']} clips are usable: {summary['clips']}"
    )
    for reason, count in summary["refused"].items():
        print(f"  refused, {reason}: {count}")
    for name, state in summary.get("annotation_files", {}).items():
        print(f"  {name}: {state}")
