"""The source `fiv2`: ChaLearn First Impressions V2, its layout, clip names, keys, and annotations.

These are pickles (read safely), or the CSV files of the ECCV 2016 challenge, which have no `interview`."""

import filecmp
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from lib.core import pickles
from lib.core.clips import SPLITS, VIDEO_SUFFIXES
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.core.targets import TRAITS
from lib.sources._archives import ANNOTATIONS, Unpacker, annotation_place, choose_folder, normalise_name
from lib.sources._spreadsheet import read_spreadsheet
from lib.sources.base import Ranges

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

OPTIONAL = "interview"
"""The score that a clip, or a complete file, may lack."""
SCORES = (*TRAITS, OPTIONAL)

ECCV_COLUMNS = {
    "extraversion": "ValueExtraversion",
    "agreeableness": "ValueAgreeableness",
    "conscientiousness": "ValueConscientiousness",
    "neuroticism": "ValueNeurotisicm",
    "openness": "ValueOpenness",
}
"""The columns of SPLIT_gt.csv of the ECCV 2016 challenge, in its spelling. The clip is in the column `VideoName`."""

LATTICE = {
    "extraversion": 107,
    "agreeableness": 91,
    "conscientiousness": 103,
    "neuroticism": 96,
    "openness": 90,
    "interview": 107,
}
"""Each score times this number is an integer (checked on all distributed annotations)."""

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
    "set the environment variables FIV2_KEY_A (outer archives) and FIV2_KEY_B (inner archives)"
    " to the two keys that ChaLearn gives on registration"
)

_CLIP_NAME = re.compile(r"(?P<video>.+)\.\d{3}\.\w+", re.DOTALL)
_FOLDER = re.compile(r"(training|validation|test)80_\d+")
_NONE = ("", "-", "n/a", "na", "none", "null")
"""Texts that stand for a missing score."""
_TOLERANCE = 1e-6  # largest distance of score x LATTICE from an integer


class Settings(Section):
    """The section download.fiv2; it has no keys."""


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Unpack the distribution, or the parts of it that are present, with the keys from the environment."""
    keys = [os.environ[name] for name in ("FIV2_KEY_A", "FIV2_KEY_B") if os.environ.get(name)]
    yield from unpack(archives, folder, keys, videos)


def unpack(archives: Path, folder: Path, keys: Sequence[str], videos: bool) -> Iterator[Path]:
    """Unpack archives in FIV2's layout to SUBFOLDER/CLIP and annotations/NAME below `folder`, and yield these paths."""
    yield from Unpacker(folder, keys, KEY_HINT, partial(place, videos=videos)).unpack(archives)


def place(path: PurePath, videos: bool) -> Path | None:
    """Return a file's path below the corpus' folder, or None if the file is not part of the corpus."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return annotation_place(path)
    folders = [part for part in path.parts if _FOLDER.fullmatch(part)]
    return Path(folders[-1] if folders else choose_folder(path.name.rsplit(".", 2)[0]), path.name) if videos else None


def columns(settings: Section) -> Ranges:
    """Return the targets with their ranges."""
    return dict.fromkeys(SCORES, (0.0, 1.0))


def rows(settings: Section, folder: Path, files: Sequence[Path]) -> "pd.DataFrame":
    """Return the annotated clips. The split comes from the annotation file, never from a folder's name."""
    table = read_annotations(folder / ANNOTATIONS).rename_axis("clip").reset_index()
    file_of = _files_by_name(folder, files)
    table["video"] = [match["video"] if (match := _CLIP_NAME.fullmatch(clip)) else "" for clip in table["clip"]]
    clip_files = [file_of.get(normalise_name(clip)) for clip in table["clip"]]
    table["file"] = [file.as_posix() if file else "" for file in clip_files]
    table["shard"] = [
        file.parts[0] if file else choose_folder(clip.rsplit(".", 2)[0])
        for clip, file in zip(table["clip"], clip_files, strict=True)
    ]
    return table


def _files_by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """Return the files by normalised name. Raises InputError if two different files have the same name."""
    file_of: dict[str, Path] = {}
    for file in files:
        other = file_of.setdefault(normalise_name(file.name), file)
        if other != file and not filecmp.cmp(folder / other, folder / file, shallow=False):
            raise InputError(f"two different files are called {file.name}: {other} and {file}; keep one of them")
    return file_of


def problem(row: Mapping[str, Any]) -> str:
    """Return the reason to reject a clip because of its scores or name, or an empty string."""
    for name in SCORES:
        value = row[name]
        if math.isnan(value) and name == OPTIONAL:
            continue
        if math.isnan(value):
            return f"score: {name} has no score"
        if not 0 <= value <= 1:
            return f"score: {name} is {value}, outside [0, 1]"
        on_lattice = value * LATTICE[name]
        if abs(on_lattice - round(on_lattice)) > _TOLERANCE:
            return f"score: {name} is {value}, not a multiple of 1/{LATTICE[name]}: corrupt, or another trait's score"
    try:
        video_of(row["clip"])
    except InputError as error:
        return f"name: {error}"
    return ""


def video_of(clip: str) -> str:
    """Return the id of the video that a clip was cut from: `-AmMDnVl4s8` for `-AmMDnVl4s8.003.mp4`."""
    match = _CLIP_NAME.fullmatch(clip)
    if match is None:
        raise InputError(
            f"clip name {clip!r} does not have the form VIDEO.NNN.mp4 (example: J4GQm9j0JZ0.003.mp4); rename the clip"
        )
    return match["video"]


def read_annotations(folder: Path) -> "pd.DataFrame":
    """Return the scores in all annotation_SPLIT.pkl files: one row per clip (the index), with the column `split`.

    A split without such a file is read from SPLIT_gt.csv.

    Raises InputError if no such file exists, or if a clip is in two splits.
    """
    import pandas as pd

    tables = []
    for split in SPLITS:
        path = folder / f"annotation_{split}.pkl"
        if path.exists():
            tables.append(read(path).assign(split=split))
        elif (table := folder / f"{split}_gt.csv").exists():
            tables.append(read_eccv(table).assign(split=split))
    if not tables:
        raise InputError(
            "no annotation_training.pkl, annotation_validation.pkl, annotation_test.pkl or training_gt.csv was found;"
            " put them, or the archives that contain them, into data/archives/ (data/archives/README.md lists all)"
        )
    table = pd.concat(tables)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(
            f"clip {twice} is annotated in two splits: {', '.join(table.loc[twice, 'split'])}; remove it from one file"
        )
    return table


def read(path: Path) -> "pd.DataFrame":
    """Return the scores of an annotation pickle: one row per clip (the index), one column for each of SCORES.

    A missing score is NaN. Raises InputError if the pickle would run code, has another structure, or lacks a trait.
    `interview` may be missing.
    """
    import pandas as pd

    content = pickles.load_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(scores, dict) for scores in content.values()):
        raise InputError(f"{path} is not a {{trait: {{clip: score}}}} dictionary; put the distributed file there")
    content = pickles.name_keys(path, content)
    if missing := [score for score in TRAITS if score not in content]:
        has = ", ".join(list(content)[:10]) + (f" and {len(content) - 10} more" if len(content) > 10 else "")
        turned = content and set(TRAITS) <= set(pickles.name_keys(path, next(iter(content.values()))))
        way = (
            "; it is {clip: {trait: score}}: convert it to {trait: {clip: score}}"
            if turned
            else f"; it has {has}. Put the distributed file there"
        )
        raise InputError(f"{path} has no {', '.join(missing)}{way}")
    columns = {}
    for score in SCORES:
        of_clips = pickles.name_keys(path, content.get(score, {}))
        columns[score] = pd.Series(
            {clip: _score(f"{path}: {score} of {clip}", value) for clip, value in of_clips.items()}, dtype=float
        )
    return pd.DataFrame(columns).sort_index()


def read_eccv(path: Path) -> "pd.DataFrame":
    """Return the scores of a CSV file of the ECCV 2016 challenge, as `read` does. `interview` is NaN."""
    import pandas as pd

    sheet = read_spreadsheet(path, f"data/archives/{path.name}")
    if missing := [name for name in ("VideoName", *ECCV_COLUMNS.values()) if sheet.find_column(name.lower()) is None]:
        raise InputError(
            f"{sheet.name} has no column {missing[0]!r}; its columns are {', '.join(sheet.header)}. Put the distributed file"
            " there"
        )
    names = {score: str(sheet.find_column(column.lower())) for score, column in ECCV_COLUMNS.items()}
    clip = str(sheet.find_column("videoname"))
    rows: dict[str, dict[str, float]] = {}
    for number, cells in sheet.rows.items():
        if cells[clip] in rows:
            raise sheet.error(number, clip, cells[clip], "each clip once")
        rows[cells[clip]] = {
            score: _score(f"{sheet.name}: {score} of {cells[clip]}", cells[column]) for score, column in names.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*ECCV_COLUMNS]).assign(interview=math.nan).sort_index()


def _score(where: str, value: Any) -> float:
    """Return a score as a float, NaN if it is missing. Raises InputError for any other text."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where} is {str(value)[:80]!r}; allowed: a number, or None if it is missing") from None
