"""The source `mosei`: segments of CMU-MOSEI (Zadeh et al. 2018), as cut clips or in complete videos, with sentiment and
emotions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lib.core.clips import SPLITS, VIDEO_SUFFIXES
from lib.core.errors import InputError, SettingError
from lib.core.parameters import Section
from lib.sources._archives import ANNOTATIONS, Unpacker, annotation_place, choose_folder
from lib.sources._spreadsheet import read_spreadsheet
from lib.sources.base import Ranges

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

ARCHIVES = True

CHECKSUMS: Mapping[str, str] = {}

GROUPS: Mapping[str, Mapping[str, Mapping[str, str]]] = {}

EMOTIONS = {
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprise",
}
"""Target -> column of intensities (0 to 3) in the label file. The targets also have `neutral`, which comes first."""

FOLDS = {
    "training": "training",
    "train": "training",
    "validation": "validation",
    "valid": "validation",
    "test": "test",
}
_MOST, _SENTIMENT = 3.0, 3.0


class Settings(Section):
    """The section download.mosei: the name of the label file (CSV or Parquet)."""

    labels: Annotated[str, Field(pattern=r"\.(csv|parquet)$")]


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Unpack all videos and annotations below `archives`. Encrypted archives are not supported."""
    yield from Unpacker(folder, (), "unpack it by hand", partial(_place, videos=videos)).unpack(archives)


def _place(path: PurePath, videos: bool) -> Path | None:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return annotation_place(path)
    return Path(choose_folder(path.stem.rpartition("_")[0] or path.stem), path.name) if videos else None


def columns(settings: Section) -> Ranges:
    """Return the targets with their ranges."""
    return {"sentiment": (-_SENTIMENT, _SENTIMENT)} | list_emotion_columns()


def list_emotion_columns() -> dict[str, tuple[float, float]]:
    """Return the columns of `targets` with their ranges."""
    return {
        name: (0.0, _MOST if name.endswith("_intensity") else 1.0) for name in targets(dict.fromkeys(EMOTIONS, 0.0))
    }


def rows(settings: Settings, folder: Path, files: Sequence[Path]) -> "pd.DataFrame":
    """Return the labelled segments, called VIDEO_SEGMENT.mp4, with `sentiment` and the columns of `targets`.

    A segment's file is VIDEO_SEGMENT with any video suffix. If it does not exist, the segment is the part of VIDEO from
    `start` to `end`. Raises InputError with row, column, value and allowed values at the first mistake.
    """
    import pandas as pd

    path = folder / ANNOTATIONS / settings.labels
    if not path.exists():
        raise SettingError(
            f"download.mosei.labels = {settings.labels!r}; allowed: a file in data/archives/. Put it there"
        )
    sheet = read_spreadsheet(path, f"data/archives/{settings.labels}")
    needed = ["video", "segment", "start", "end", "split", "sentiment", *EMOTIONS.values()]
    if missing := [name for name in needed if sheet.find_column(name) is None]:
        raise InputError(
            f"{sheet.name} has no column {missing[0]!r}; its columns are {', '.join(sheet.header)}. Add it"
        )
    column = {name: str(sheet.find_column(name)) for name in needed}
    video_files = {file.stem: file for file in files if file.suffix.lower() in VIDEO_SUFFIXES}
    segments: dict[str, dict[str, Any]] = {}
    for number, cells in sheet.rows.items():

        def number_of(name: str, low: float, high: float, row: int = number) -> float:
            value, text = sheet.number(row, column[name]), sheet.rows[row][column[name]]
            if not low <= value <= high or math.isinf(value):
                raise sheet.error(row, column[name], text, f"a number from {low:g} to {high:g}")
            return value

        video, segment = cells[column["video"]], cells[column["segment"]]
        name = f"{video}_{segment}"
        if not video or not segment or f"{name}.mp4" in segments:
            raise sheet.error(number, column["segment"], segment, "each pair of video and segment once, neither empty")
        start = number_of("start", -math.inf, math.inf)  # CMU-MOSEI has segments with a negative start
        if (end := number_of("end", -math.inf, math.inf)) <= max(start, 0.0):
            raise sheet.error(number, column["end"], cells[column["end"]], f"more than the start, {start:g}, and 0")
        split = cells[column["split"]].lower()
        if split and split not in FOLDS:
            raise sheet.error(
                number, column["split"], split, f"{', '.join(FOLDS)}, or empty for a segment without a fold"
            )
        file, full_video = video_files.get(name), video_files.get(video)
        span = {} if file or not full_video else {"start": max(start, 0.0), "end": end}
        file = file or full_video
        segments[f"{name}.mp4"] = (
            {
                "clip": f"{name}.mp4",
                "video": video,
                "split": FOLDS.get(split, ""),
                "shard": file.parts[0] if file else choose_folder(video),
                "file": file.as_posix() if file else "",
                "sentiment": number_of("sentiment", -_SENTIMENT, _SENTIMENT),
            }
            | span
            | targets({target: number_of(column_name, 0, _MOST) for target, column_name in EMOTIONS.items()})
        )
    return pd.DataFrame(list(segments.values()))


def targets(intensities: Mapping[str, float]) -> dict[str, float]:
    """Return a clip's targets, given its intensities: the values of `shares`, NAME_present (0 or 1), and the intensities
    themselves, NAME_intensity (0 to 3)."""
    present = {f"{name}_present": float(value > 0) for name, value in intensities.items()}
    return shares(intensities) | present | {f"{name}_intensity": float(value) for name, value in intensities.items()}


def shares(intensities: Mapping[str, float]) -> dict[str, float]:
    """Return each emotion's fraction of the summed intensities; `neutral` is 1 if all intensities are 0, else 0."""
    total = sum(intensities.values())
    if not total:
        return {"neutral": 1.0} | dict.fromkeys(intensities, 0.0)
    return {"neutral": 0.0} | {name: value / total for name, value in intensities.items()}


def problem(row: Mapping[str, Any]) -> str:
    """Return the reason to reject a segment without a fold, or an empty string."""
    return "" if row["split"] in SPLITS else "split: in no fold"
