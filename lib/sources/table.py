"""The source `table`: the user's own clips, listed in a CSV, Excel or Parquet file, with any targets of known range."""

import filecmp
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

from pydantic import Field, model_validator

from lib.core.clips import SPLITS, VIDEO_SUFFIXES, column_names
from lib.core.errors import InputError, SettingError
from lib.core.parameters import Section
from lib.core.targets import RATER_SD, RATERS, Range, list_rating_columns
from lib.sources._archives import ANNOTATIONS, Unpacker, annotation_place, choose_folder, normalise_name
from lib.sources._matching import is_absolute, show_three, split_path, suggest_name
from lib.sources._spreadsheet import Spreadsheet, read_spreadsheet
from lib.sources.base import Ranges

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

ARCHIVES = True

CHECKSUMS: Mapping[str, str] = {}

GROUPS: Mapping[str, Mapping[str, Mapping[str, str]]] = {}

_CLIP_NAME = re.compile(r"(?P<video>.+)\.\d{3}\.\w+", re.DOTALL)


class Settings(Section):
    """The section download.table: the table's path below data/archives/, and the range [lowest, highest] of each target."""

    path: Annotated[str, Field(pattern=r"\.(csv|xlsx|parquet)$")]
    targets: dict[str, Range]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, (low, high) in self.targets.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"targets.{name} = [{low}, {high}]; allowed: two numbers, the lower first")
            if name in column_names([]):
                raise ValueError(f"targets.{name}; allowed: any name except {', '.join(column_names([]))}")
        return self


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Unpack all videos and annotations below `archives`. Encrypted archives are not supported."""
    yield from Unpacker(folder, (), "unpack it by hand", partial(_place, videos=videos)).unpack(archives)


def _place(path: PurePath, videos: bool) -> Path | None:
    """Return a file's destination. Clips keep their folders, so that equal names in two folders stay two files."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return annotation_place(path)
    return Path(choose_folder(_video_of(path.name)), *path.parts) if videos else None


def columns(settings: Settings) -> Ranges:
    """Return the targets in the settings with their ranges."""
    return {name: (low, high) for name, (low, high) in settings.targets.items()}


def rows(settings: Settings, folder: Path, files: Sequence[Path]) -> "pd.DataFrame":
    """Return the table's clips. Raises InputError with row, column, value and allowed values at the first mistake."""
    import pandas as pd

    if not settings.targets:
        raise SettingError(
            "download.table.targets = {}; allowed: columns of the table with their lowest and highest value,"
            " for example {warmth: [1, 7]}"
        )
    path = folder / ANNOTATIONS / PurePosixPath(settings.path).name
    if not path.exists():
        raise SettingError(f"download.table.path = {settings.path!r}; allowed: a file in data/archives/. Put it there")
    sheet = read_spreadsheet(path, f"data/archives/{settings.path}")
    columns = _find_columns(sheet)
    if missing := [name for name in settings.targets if name not in sheet.header]:
        raise InputError(
            f"{sheet.name} has no column {missing[0]!r}, which download.table.targets lists;"
            f" its columns are {', '.join(sheet.header)}{suggest_name(missing[0], sheet.header)}"
        )
    limits = settings.targets | dict(_limit_ratings(sheet, settings.targets))
    by_name, row_of, foreign = _files_by_name(files), dict[str, int](), list[str]()
    result: list[dict[str, Any]] = []
    for number, cells in sheet.rows.items():
        matching, parts = _find_files(cells[columns.file], by_name)
        if len(parts) < len(split_path(cells[columns.file])) and matching:
            foreign.append(cells[columns.file])
        clip = cells[columns.clip].replace("\\", "/") if columns.clip == sheet.find_column("clip") else "_".join(parts)
        if clip in ("", ".", "..") or "/" in clip or "\0" in clip:
            raise sheet.error(number, columns.clip, cells[columns.clip], "a name without slashes")
        if (other := row_of.setdefault(clip, number)) != number:
            raise sheet.error(
                number, columns.clip, cells[columns.clip], f"each clip once; row {other} has the same clip"
            )
        split = cells[columns.split].lower() if columns.split else ""
        if split not in ("", *SPLITS):
            allowed = f"{', '.join(SPLITS)}, or empty{suggest_name(split, SPLITS)}"
            raise sheet.error(number, str(columns.split), split, allowed)
        video = (cells[columns.video] if columns.video else "") or _video_of(clip)
        if any(not filecmp.cmp(folder / matching[0], folder / file, shallow=False) for file in matching[1:]):
            paths = ", ".join(Path(*file.parts[1:]).as_posix() for file in matching)
            allowed = f"the path of one file; several match: {paths}"
            raise sheet.error(number, columns.file, cells[columns.file], allowed)
        result.append(
            {"clip": clip, "video": video, "split": split, "file": matching[0].as_posix() if matching else ""}
            | {"shard": matching[0].parts[0] if matching else choose_folder(video)}
            | {name: _number(sheet, number, name, *ends) for name, ends in limits.items()}
        )
    if foreign:
        print(
            f"{sheet.name}: {len(foreign)} paths of another machine, matched by their last parts: {show_three(foreign)}"
        )
    return pd.DataFrame(result)


class _Columns(NamedTuple):
    """The names of a table's columns for clip, file, video and split."""

    clip: str
    file: str
    video: str | None
    split: str | None


def _find_columns(sheet: Spreadsheet) -> _Columns:
    """Return the table's columns. Raises InputError if it has neither a column of clips nor of files."""
    clip, file = sheet.find_column("clip", "file"), sheet.find_column("file", "clip")
    if clip is None or file is None:
        raise InputError(
            f"{sheet.name} has the columns {', '.join(sheet.header)}; required: a column called clip or file"
        )
    return _Columns(clip, file, sheet.find_column("video", "person"), sheet.find_column("split"))


def problem(row: Mapping[str, Any]) -> str:
    """Return the reason to reject a clip without any target, or an empty string. `rows` has checked the cells."""
    others = {*column_names([]), *list_rating_columns(row)}
    targets = [value for name, value in row.items() if name not in others]
    return "target: none is known" if all(map(math.isnan, targets)) else ""


def _video_of(clip: str) -> str:
    """Return VIDEO for a clip called VIDEO.NNN.ext, else the clip's name: the clip is the only clip of its video."""
    match = _CLIP_NAME.fullmatch(clip)
    return match["video"] if match else clip


def _files_by_name(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the video files by name, both with and without suffix."""
    files_of: dict[str, list[Path]] = {}
    for file in sorted(files):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            for name in (normalise_name(file.name), file.stem):
                files_of.setdefault(name, []).append(file)
    return files_of


def _find_files(value: str, by_name: Mapping[str, list[Path]]) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files that match a path (with or without suffix), and the matching parts of the path.

    A file with exactly this path is preferred to files whose paths end with it. For an absolute path, which comes from
    another machine, the longest last part that matches a file is used.
    """
    parts = split_path(value)
    for start in range(len(parts) if is_absolute(value) else 1):
        if matching := _match_parts(parts[start:], by_name):
            return matching, parts[start:]
    return [], parts[-1:] if is_absolute(value) else parts


def _match_parts(parts: tuple[str, ...], by_name: Mapping[str, list[Path]]) -> list[Path]:
    files = by_name.get(parts[-1]) or by_name.get(normalise_name(parts[-1]), []) if parts else []
    same = [file for file in files if file.parts[1:-1] == parts[:-1]]
    return same or [file for file in files if len(parts) < 2 or file.parts[1:-1][1 - len(parts) :] == parts[:-1]]


def _limit_ratings(
    sheet: Spreadsheet, targets: Mapping[str, Sequence[float]]
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the columns NAME_n and NAME_sd of each target that has both, with their lowest and highest value."""
    for name, (low, high) in targets.items():
        columns = {name + RATERS: (1.0, math.inf), name + RATER_SD: (0.0, high - low)}
        if {*columns} <= {*sheet.header} and targets.keys().isdisjoint(columns):
            yield from columns.items()


def _number(sheet: Spreadsheet, row: int, column: str, low: float, high: float) -> float:
    """Return a target, NaN for an empty cell."""
    value, text = sheet.number(row, column), sheet.rows[row][column]
    if text and not low <= value <= high:
        raise sheet.error(row, column, text, f"a number from {low:g} to {high:g}, or empty if it is unknown")
    return value
