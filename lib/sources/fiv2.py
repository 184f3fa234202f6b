"""The source `fiv2`: ChaLearn First Impressions V2: its layout, names, keys, and its pickles, which run no code."""

import filecmp
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from lib.core import pickles
from lib.core.clips import SPLITS
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.core.targets import TRAITS
from lib.sources.archives import ANNOTATIONS, VIDEO_SUFFIXES, Unpacker, annotation_place, named, spread

SCORES = (*TRAITS, "interview")

LATTICE = {
    "extraversion": 107,
    "agreeableness": 91,
    "conscientiousness": 103,
    "neuroticism": 96,
    "openness": 90,
    "interview": 107,
}
"""Every score times this number is a whole number (measured on all of the distributed annotations)."""

ARCHIVES = True

CHECKSUMS = {
    "annotation_training.pkl": "cdf3aaccfb8ed217e0f34a40b0560fd5367991c4feba63d94031188da99fb2b6",
    "annotation_validation.pkl": "4393caee5468ae44904598359d84e73ee0cbc9431d9c70465948725084527d77",
    "annotation_test.pkl": "1d758f806581497ee17fdb1bc00c89d37b3321ffd588c3116fad4f8f479f3f4b",
}

GROUPS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "eth_gender_annotations_*.csv": {
        "ethnicity": {"1": "Asian", "2": "Caucasian", "3": "African-American"},
        "gender": {"1": "male", "2": "female"},
    },
    "age_anno_*.csv": {},
}

KEY_HINT = (
    "set the environment variables FIV2_KEY_A (outer archives) and FIV2_KEY_B (inner ones)"
    " to the two keys that ChaLearn gives on registration"
)

_CLIP_NAME = re.compile(r"(?P<video>.+)\.\d{3}\.\w+", re.DOTALL)
_FOLDER = re.compile(r"(training|validation|test)80_\d+")
_NONE = ("", "-", "n/a", "na", "none", "null")
"""Texts that say that there is no score."""
_TOLERANCE = 1e-6  # of a score times its lattice number, from a whole number


class Settings(Section):
    """The section download.fiv2: there is nothing to choose."""


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Unpack the distribution, as whole or in parts, with the keys in the environment."""
    keys = [os.environ[name] for name in ("FIV2_KEY_A", "FIV2_KEY_B") if os.environ.get(name)]
    yield from unpack(archives, folder, keys, videos)


def unpack(archives: Path, folder: Path, keys: Sequence[str], videos: bool) -> Iterator[Path]:
    """Unpack archives in FIV2's layout to SUBFOLDER/CLIP and annotations/NAME below `folder`; yield where."""
    yield from Unpacker(folder, keys, KEY_HINT, partial(place, videos=videos)).unpack(archives)


def place(path: PurePath, videos: bool) -> Path | None:
    """Where a file belongs below the corpus' folder; None for one that is no part of it."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return annotation_place(path)
    folders = [part for part in path.parts if _FOLDER.fullmatch(part)]
    return Path(folders[-1] if folders else spread(path.name.rsplit(".", 2)[0]), path.name) if videos else None


def columns(settings: Section) -> tuple[str, ...]:
    """Return the names of the targets."""
    return SCORES


def rows(settings: Section, folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Return the clips that the annotations name; the split is theirs, never a folder's."""
    table = read_annotations(folder / ANNOTATIONS).rename_axis("clip").reset_index()
    found = _by_name(folder, files)
    table["video"] = [match["video"] if (match := _CLIP_NAME.fullmatch(clip)) else "" for clip in table["clip"]]
    there = [found.get(named(clip)) for clip in table["clip"]]
    table["file"] = [file.as_posix() if file else "" for file in there]
    table["shard"] = [
        file.parts[0] if file else spread(clip.rsplit(".", 2)[0])
        for clip, file in zip(table["clip"], there, strict=True)
    ]
    return table


def _by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(named(file.name), file)
        if other != file and not filecmp.cmp(folder / other, folder / file, shallow=False):
            raise InputError(f"two files are called {file.name}, {other} and {file}, and their bytes differ; keep one")
    return found


def problem(row: Mapping[str, Any]) -> str:
    """Say what is wrong with a clip's scores or name, or return an empty string."""
    for name in SCORES:
        value = row[name]
        if math.isnan(value):
            return f"score: {name} has no score"
        if not 0 <= value <= 1:
            return f"score: {name} is {value}, outside [0, 1]"
        on_lattice = value * LATTICE[name]
        if abs(on_lattice - round(on_lattice)) > _TOLERANCE:
            return f"score: {name} is {value}, no multiple of 1/{LATTICE[name]}: corrupt, or another trait's score"
    try:
        video_of(row["clip"])
    except InputError as error:
        return f"name: {error}"
    return ""


def video_of(clip: str) -> str:
    """Return the id of the video that a clip was cut from: `-AmMDnVl4s8` for `-AmMDnVl4s8.003.mp4`."""
    match = _CLIP_NAME.fullmatch(clip)
    if match is None:
        raise InputError(f"clip name {clip!r} is not of the form VIDEO.NNN.mp4 (as in J4GQm9j0JZ0.003.mp4)")
    return match["video"]


def read_annotations(folder: Path) -> pd.DataFrame:
    """Return the scores of annotation_SPLIT.pkl for each split there is: a row a clip (the index), and its `split`.

    Raises InputError if there is none, or a clip is in two splits.
    """
    tables = []
    for split in SPLITS:
        path = folder / f"annotation_{split}.pkl"
        if path.exists():
            tables.append(read(path).assign(split=split))
    if not tables:
        raise InputError(
            "no annotation_training.pkl, annotation_validation.pkl or annotation_test.pkl was found;"
            " put them, or the archives that hold them, into data/archives/ (data/archives/README.md lists all)"
        )
    table = pd.concat(tables)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"clip {twice} is annotated in two splits: {', '.join(table.loc[twice, 'split'])}")
    return table


def read(path: Path) -> pd.DataFrame:
    """Return the scores of an annotation pickle: a row a clip (the index), a column for each of SCORES.

    Raises InputError if the file asks for code, is no such pickle, or lacks a trait; a score that a clip lacks is NaN.
    """
    content = pickles.load_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(scores, dict) for scores in content.values()):
        raise InputError(f"{path} holds no {{trait: {{clip: score}}}} dictionary")
    content = pickles.name_keys(path, content)
    if missing := [score for score in SCORES if score not in content]:
        has = ", ".join(list(content)[:10]) + (f" and {len(content) - 10} more" if len(content) > 10 else "")
        turned = content and set(SCORES) <= set(pickles.name_keys(path, next(iter(content.values()))))
        way = "; it is {clip: {trait: score}}, turn it to {trait: {clip: score}}" if turned else f"; it has {has}"
        raise InputError(f"{path} lacks {', '.join(missing)}{way}")
    columns = {}
    for score in SCORES:
        of_clips = pickles.name_keys(path, content[score])
        columns[score] = pd.Series(
            {clip: _score(f"{path}: {score} of {clip}", value) for clip, value in of_clips.items()}, dtype=float
        )
    return pd.DataFrame(columns).sort_index()


def _score(where: str, value: Any) -> float:
    """Return a score, NaN where there is none."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where} is {str(value)[:80]!r}; allowed: a number, or None where there is none") from None
