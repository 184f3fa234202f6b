"""Bring in all corpora, verify and split their clips, and write the outputs of the stage `download`."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, create_model
from tqdm import tqdm

from lib.core import resume
from lib.core.artifacts import ARCHIVES, CLIPS, CUES, DATA_METRICS, DOWNLOAD_METRICS, GROUPS, RAW
from lib.core.clips import SPLITS, VIDEO_SUFFIXES, column_names, describe_left_out, describe_origins
from lib.core.errors import InputError, SettingError
from lib.core.fetch import fetch
from lib.core.parameters import Section
from lib.core.persons import find_groups
from lib.sources import _across, _check, _cues, _persons, _split, base, listing
from lib.sources._check import Corpus
from lib.sources._matching import suggest_name

MADE_OF = "made_of.json"
"""File below data/raw/CORPUS/ that lists the archives and settings behind the folder's content."""

MAX_SECONDS = 24 * 3600

_SCORE_THEM = " To score the corpus' test split, set download.split to official"


class Url(Section):
    url: str
    sha256: str | None


class Group(Section):
    """A group of persons: a column of data/groups.csv and one of its values."""

    column: str
    value: str


class Download(Section):
    """The settings that all sources share. `Complete` adds a section for each source."""

    sources: Annotated[list[str], Field(min_length=1)]
    videos: bool
    held_out: list[str] = Field(default_factory=list)
    scale: Literal["original", "unit"] = "original"
    split: Literal[*_split.SPLITTERS]  # type: ignore[valid-type]
    group: Group
    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    split_fractions: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=3, max_length=3)] | None
    folds: Annotated[int, Field(ge=3, le=1000)]
    fold: Annotated[int, Field(ge=0, le=999)]
    inner_folds: Annotated[int, Field(ge=0, le=1000)]
    inner_fold: Annotated[int, Field(ge=0, le=999)]
    allow_missing: Annotated[float, Field(ge=0, le=1)]
    min_seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)]
    min_frames: Annotated[int, Field(ge=2, le=10_000_000)]
    max_seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)]
    max_damaged: Annotated[float, Field(ge=0, le=1)]
    urls: dict[str, Url]
    folders: list[str] = Field(default_factory=list)


def _section(settings: type[Section]) -> tuple[type[Section], Any]:
    """Return a source's pydantic field. The section is optional for a source without settings."""
    return settings, (... if settings.model_fields else settings())


_SECTIONS: dict[str, Any] = {name: _section(base.load(name).Settings) for name in base.names()}
Complete = create_model("Complete", __base__=Download, **_SECTIONS)


class Parameters(Section):
    download: Complete  # type: ignore[valid-type]


def check_targets(parameters: Mapping[str, Any], settings: Download) -> None:
    """Check that each column of model.targets comes from a source of `settings`, with the range that the user's table has.

    parameters: the complete params.yaml. Raises InputError for the first column that does not. Unknown target groups are
    reported by the check of `targets`.
    """
    _across.check_held_out(settings)
    columns = [column for ranges in _across.find_ranges(settings).values() for column in ranges]
    for name in parameters["model"]["targets"]:
        wanted = parameters["targets"].get(name, {}).get("columns", [])
        if missing := [column for column in wanted if column not in columns]:
            raise SettingError(
                f"targets.{name}.columns has {missing[0]!r}, which no source of download.sources ="
                f" {settings.sources} has; allowed: {', '.join(dict.fromkeys(columns))}"
                f"{suggest_name(missing[0], columns)}; correct the columns, or remove {name} from model.targets"
            )
    _across.check_ranges(parameters, settings)


def find_scored(parameters: Mapping[str, Any], settings: Download) -> dict[str, list[str]]:
    """Return the predicted columns of each corpus of evaluate.on. Raises SettingError for a corpus without any."""
    return _across.find_scored(parameters, settings)


def find_fairness_group(parameters: Mapping[str, Any]) -> str | None:
    """Return train.fairness_group, None if train.fairness is none; `parameters` is the complete params.yaml."""
    train = parameters.get("train", {})  # the stage train checks it
    return None if train.get("fairness", "none") == "none" else train.get("fairness_group")


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
    corpora = [bring_corpus(name, settings) for name in dict.fromkeys(settings.sources)]
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
    report(summary)
    check_missing_fraction(table, summary, settings.allow_missing)
    resume.publish(
        [(corpus.folder / file, Path(corpus.name, file)) for corpus in corpora for file in corpus.files], RAW
    )
    write(CLIPS, table.to_csv(index=False))
    write(GROUPS, groups.to_csv(index=False))
    write(CUES, cues.to_csv(index=False))
    write(DATA_METRICS, json.dumps(summary, indent=2) + "\n")
    write(DOWNLOAD_METRICS, json.dumps({"seconds": round(time.monotonic() - began, 1)}) + "\n")


def summarise(
    corpora: list[Corpus], table: pd.DataFrame, corpus_split: pd.Series, groups: pd.DataFrame, settings: Download
) -> dict[str, Any]:
    """Return the figures for metrics/data.json. corpus_split: the split that the corpus itself gives each clip."""
    sources = [corpus.name for corpus in corpora]
    summary = {"sources": sources, "split": settings.split} | _check.summary(table, corpus_split, settings.held_out)
    if settings.split == "group_out":
        summary["group"] = settings.group.model_dump()
    if checked := dict(annotation_files(corpora)):
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
            f" download.allow_missing in params.yaml allows {allowed:.2%}. Each clip's reason is in"
            f" {resume.ROOT / 'clips.csv'}: repair the clips, or raise download.allow_missing. Unpacked files stay cached"
        )


def bring_corpus(name: str, settings: Download) -> Corpus:
    """Bring in a source's files and read its labels.

    If archives are missing and data/raw/ was built from exactly these archives, its files are used instead.
    """
    source, own_settings = base.load(name), getattr(settings, name)
    folder = resume.ROOT / f"download-{name}"
    made_of: dict[str, Any] = {"settings": own_settings.model_dump(), "videos": settings.videos}
    if settings.folders:
        made_of["folders"] = settings.folders
    if source.ARCHIVES:
        listed = listing.read(listing.LISTING)
        made_of |= {
            "archives": {path: file.sha256 for path, file in sorted(listed.items())},
            "urls": sorted(settings.urls),
        }
        gone = listing.missing(ARCHIVES, listed, settings.urls)
        gone += [url for url in settings.urls if not (ARCHIVES / url).exists() and url not in gone]
        if gone and is_made_of(RAW / name, made_of):
            print(
                f"{len(gone)} files are missing in {ARCHIVES}/ ({gone[0]}, ...); using {RAW / name}/, built from them"
            )
            folder = RAW / name
        else:
            have_archives(settings.urls, listed, gone)
    if folder != RAW / name:
        folder.mkdir(parents=True, exist_ok=True)
        brought = source.bring(own_settings, ARCHIVES, folder, settings.videos)
        files = sorted(set(tqdm(brought, desc=f"unpack {name}", unit="file", disable=None)))
        if source.ARCHIVES:
            write(folder / MADE_OF, json.dumps(made_of, indent=2) + "\n")
            files.append(Path(MADE_OF))
    else:
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    rows = source.rows(own_settings, folder, files)
    if settings.scale == _across.UNIT:
        rows = _across.to_unit(rows, source.columns(own_settings))
    return Corpus(name, source, folder, *select_folders(rows, files, settings.folders))


def select_folders(rows: pd.DataFrame, files: list[Path], folders: list[str]) -> tuple[list[Path], pd.DataFrame]:
    """Return the files and annotated clips in some sub-folders or splits of a corpus; all of them if `folders` is empty.

    Raises SettingError if a folder has no clip.
    """
    if not folders:
        return files, rows
    has_file = rows["file"] != ""
    with_files = rows[has_file] if has_file.any() else rows  # without videos, clips have no file
    allowed = sorted({*with_files["shard"], *with_files["split"]} - {""})
    if unknown := [folder for folder in folders if folder not in allowed]:
        raise SettingError(
            f"download.folders has {unknown[0]!r}; allowed: sub-folders and splits with clips: {', '.join(allowed[:20])}"
        )
    chosen = with_files[with_files["shard"].isin(folders) | with_files["split"].isin(folders)]
    others = {*with_files["file"]} - {*chosen["file"]}
    files_of_chosen = [
        file
        for file in files
        if file.suffix.lower() not in VIDEO_SUFFIXES
        or file.as_posix() in {*chosen["file"]}
        or (file.as_posix() not in others and file.parts[0] in folders)
    ]
    return files_of_chosen, chosen.reset_index(drop=True)


def is_made_of(folder: Path, wanted: dict[str, Any]) -> bool:
    """Return whether `folder` was built from these archives and settings."""
    path = folder / MADE_OF
    return path.exists() and json.loads(path.read_text()) == wanted


def have_archives(urls: dict[str, Url], listed: dict[str, listing.File], gone: list[str]) -> None:
    """Download the missing archives that have a URL in `urls`.

    Raises InputError if a missing archive has no URL, or if no archive is listed at all.
    """
    for name in gone:
        if name in urls:
            if Path(name).name != name:
                raise SettingError(f"download.urls has the key {name!r}; allowed: a file name without folders")
            fetch(urls[name].url, ARCHIVES / name, urls[name].sha256, "correct download.urls in params.yaml")
    if unavailable := [name for name in gone if name not in urls]:
        raise InputError(
            f"{len(unavailable)} files that {listing.LISTING} lists are missing in {ARCHIVES}/"
            f" ({', '.join(unavailable[:3])}), and {RAW}/ was not built from them; put them back, or restore {RAW}/ with"
            f" `dvc pull`, or list the files again: {listing.COMMAND}. Nothing was changed"
        )
    if not listed and not urls:
        raise InputError(
            f"download.sources needs archives, and {ARCHIVES}/ is empty; put or link your archives or unpacked folders"
            f" there ({ARCHIVES}/README.md lists them) and run {listing.COMMAND}, or enter their URLs under"
            " download.urls in params.yaml"
        )


def assign_splits(table: pd.DataFrame, groups: pd.DataFrame, settings: Download) -> pd.Series:
    """Return the split of each clip. The usable clips of each corpus are split according to the settings.

    Clips of a corpus in `held_out` are in no split.
    """
    fractions = None if settings.split_fractions is None else tuple(settings.split_fractions)
    split_settings = _split.SplitSettings(settings.split_seed, settings.folds, settings.fold, fractions)
    split_settings = split_settings._replace(inner_folds=settings.inner_folds, inner_fold=settings.inner_fold)
    if settings.split == "group_out":
        group_of_clip = known_groups(groups, settings.group)
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


def known_groups(groups: pd.DataFrame, group: Group) -> pd.Series:
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


def annotation_files(corpora: list[Corpus]) -> Iterator[tuple[str, str]]:
    """Yield each annotation file with a known checksum, and whether its content is as its authors distribute it."""
    for corpus in corpora:
        for name, checksum in corpus.source.CHECKSUMS.items():
            path = corpus.folder / "annotations" / name
            if path.exists():
                yield name, "as distributed" if resume.hash_file(path) == checksum else "not as distributed"


def write(path: Path, text: str) -> None:
    """Write a new file. The old one is removed first, because it may be a link into DVC's cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)


def report(summary: dict[str, Any]) -> None:
    """Print the number of clips, missing and unlabelled files first, then the origin of each split."""
    missing = summary["rejected"].get(_check.NO_FILE, 0)
    unlabelled = summary["rejected"].get(_check.NO_ANNOTATION, 0)
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
