"""The source `table`: the user's own clips, listed in a CSV or Parquet file with any targets in stated ranges."""

import filecmp
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import Field, model_validator

from lib.core.clips import SPLITS, column_names
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.sources import spreadsheet
from lib.sources.archives import ANNOTATIONS, VIDEO_SUFFIXES, Unpacker, annotation_place, named, spread
from lib.sources.spreadsheet import Spreadsheet

ARCHIVES = True

CHECKSUMS: Mapping[str, str] = {}

GROUPS: Mapping[str, Mapping[str, Mapping[str, str]]] = {}

_CLIP_NAME = re.compile(r"(?P<video>.+)\.\d{3}\.\w+", re.DOTALL)


class Settings(Section):
    """The section download.table: the table's path below data/archives/, and [lowest, highest] of each target."""

    path: Annotated[str, Field(pattern=r"\.(csv|parquet)$")]
    targets: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, (low, high) in self.targets.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"targets.{name} = [{low}, {high}]; allowed: two numbers, the lower first")
            if name in column_names([]):
                raise ValueError(f"targets.{name}; allowed: any name but {', '.join(column_names([]))}")
        return self


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Unpack all videos and annotations below `archives`; encrypted ones are not meant."""
    yield from Unpacker(folder, (), "unpack it by hand", partial(_place, videos=videos)).unpack(archives)


def _place(path: PurePath, videos: bool) -> Path | None:
    """Clips keep their path, so that equal names in two folders are two files."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return annotation_place(path)
    return Path(spread(_video_of(path.name)), *path.parts) if videos else None


def columns(settings: Settings) -> tuple[str, ...]:
    """Return the names of the targets, which the settings list."""
    return tuple(settings.targets)


def rows(settings: Settings, folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Return the table's clips. Raises InputError naming row, column, value and what is allowed at the first mistake."""
    if not settings.targets:
        raise InputError(
            "params.yaml: download.table.targets = {}; allowed: columns of the table with their lowest and highest value,"
            " as in {warmth: [1, 7]}"
        )
    path = folder / ANNOTATIONS / PurePosixPath(settings.path).name
    if not path.exists():
        raise InputError(f"params.yaml: download.table.path = {settings.path!r}; no such file lies in data/archives/")
    sheet = spreadsheet.read(path, f"data/archives/{settings.path}")
    named, located = sheet.column("clip", "file"), sheet.column("file", "clip")
    if named is None or located is None:
        raise InputError(f"{sheet.name} has the columns {', '.join(sheet.header)}; needed is one called clip or file")
    if missing := [name for name in settings.targets if name not in sheet.header]:
        raise InputError(
            f"{sheet.name} has no column {missing[0]!r}, which download.table.targets in params.yaml names;"
            f" it has {', '.join(sheet.header)}"
        )
    of_video, of_split = sheet.column("video", "person"), sheet.column("split")
    by_name = _by_name(files)
    row_of: dict[str, int] = {}
    result: list[dict[str, Any]] = []
    for number, cells in sheet.rows.items():
        clip = cells[named].replace("\\", "/")
        clip = clip if named == sheet.column("clip") else clip.strip("/").replace("/", "_")
        if clip in ("", ".", "..") or "/" in clip or "\0" in clip:
            raise sheet.error(number, named, cells[named], "a name without slashes")
        if (other := row_of.setdefault(clip, number)) != number:
            raise sheet.error(number, named, cells[named], f"each clip once; row {other} has it")
        split = cells[of_split].lower() if of_split else ""
        if split not in ("", *SPLITS):
            raise sheet.error(number, str(of_split), cells[str(of_split)], f"{', '.join(SPLITS)}, or nothing")
        video = (cells[of_video] if of_video else "") or _video_of(clip)
        there = _matching(cells[located], by_name)
        if any(not filecmp.cmp(folder / there[0], folder / file, shallow=False) for file in there[1:]):
            paths = ", ".join(Path(*file.parts[1:]).as_posix() for file in there)
            raise sheet.error(number, located, cells[located], f"the path of one file; these fit: {paths}")
        result.append(
            {"clip": clip, "video": video, "split": split, "file": there[0].as_posix() if there else ""}
            | {"shard": there[0].parts[0] if there else spread(video)}
            | {name: _number(sheet, number, name, *ends) for name, ends in settings.targets.items()}
        )
    return pd.DataFrame(result)


def problem(row: Mapping[str, Any]) -> str:
    """Refuse a clip without any known target; what is wrong in a cell was said when it was read."""
    targets = [value for name, value in row.items() if name not in column_names([])]
    return "target: none is known" if all(map(math.isnan, targets)) else ""


def _video_of(clip: str) -> str:
    """Return VIDEO of VIDEO.NNN.ext; a clip of another name is a video of its own."""
    match = _CLIP_NAME.fullmatch(clip)
    return match["video"] if match else clip


def _by_name(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Videos by their names with and without suffix."""
    found: dict[str, list[Path]] = {}
    for file in sorted(files):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            for name in (named(file.name), file.stem):
                found.setdefault(name, []).append(file)
    return found


def _matching(value: str, by_name: Mapping[str, list[Path]]) -> list[Path]:
    """Return the files whose path is `value` or, failing that, ends in it, with or without its suffix."""
    parts = tuple(part for part in value.replace("\\", "/").split("/") if part not in ("", "."))
    there = by_name.get(parts[-1]) or by_name.get(named(parts[-1]), []) if parts else []
    whole = [file for file in there if file.parts[1:-1] == parts[:-1]]
    return whole or [file for file in there if len(parts) < 2 or file.parts[1:-1][1 - len(parts) :] == parts[:-1]]


def _number(sheet: Spreadsheet, row: int, column: str, low: float, high: float) -> float:
    """Return a target, NaN for an empty cell."""
    text = sheet.rows[row][column]
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = math.inf
    if text and not low <= value <= high:
        raise sheet.error(row, column, text, f"a number from {low:g} to {high:g}, or nothing where it is unknown")
    return value
