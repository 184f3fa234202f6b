"""Pictures that the user already has of every clip, in folders beside the corpus: faces, and their landmarks, as drawings or
points."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from lib.core import shards
from lib.core.clips import PICTURE_SUFFIXES, PICTURES, POINTS_SUFFIX
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, Stream, StreamSettings, take_steps


class Settings(StreamSettings):
    """faces, drawings, points: folders below data/archives/, an archive's name for what lies in it, each with a folder for
    every clip; all but faces may be None. fps: pictures a second. side: pixels that all are scaled to."""

    faces: Annotated[str, Field(min_length=1)]
    drawings: Annotated[str, Field(min_length=1)] | None
    points: Annotated[str, Field(min_length=1)] | None
    fps: Annotated[float, Field(gt=0, le=1000)]
    side: Annotated[int, Field(ge=16, le=1024)]


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return what reads a clip's pictures."""
    return lambda raw: load_pictures(raw, settings)


def read_steps(record: Record, chosen: np.ndarray, array: str) -> np.ndarray:
    """Return pictures as RGB uint8 (K, 3, S, S), or points (K, P, 2); nothing, (K, 0), where there are none."""
    values = take_steps(record, chosen, array)
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def annotation_files(settings: Settings, annotations: Path) -> list[Path]:
    """Return all files in the folders. Raises InputError for a folder that is not there."""
    return [
        path
        for key, folder in _given(settings).items()
        for of_clip in _folders(annotations, key, folder).values()
        for path in of_clip
    ]


def summary(folder: Path) -> dict[str, Any]:
    """Count the faces."""
    return {"faces": sum(map(len, shards.read_arrays(folder, "times")))}


def load_pictures(raw: Raw, settings: Settings) -> Record:
    """Return a clip's `faces`, and `drawings` where there is a folder of them, RGB uint8 (T, S, S, 3), where there is one of
    them the faces' `points`, float32 (T, P, 2), in the order of their names, numbers in these by value, and their `times`
    (T,) in seconds.

    A clip without a picture, with one that can't be read, or with more of one kind than of another, is refused.
    """
    if raw.annotations is None:
        return Record(raw.clip, refused="pictures: a clip outside the corpus has none")
    arrays: dict[str, np.ndarray] = {}
    for key, folder in _given(settings).items():
        there = _folders(raw.annotations, key, folder)
        paths = there.get(raw.clip) or there.get(raw.clip.rpartition(".")[0]) or []
        if not paths:
            return Record(raw.clip, refused=f"pictures: none in {folder}")
        read = [_points(path) if key == "points" else cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in paths]
        if damaged := [path.name for path, one in zip(paths, read, strict=True) if one is None]:
            return Record(raw.clip, refused=f"pictures: {damaged[0]} in {folder} can't be read")
        whole = [one for one in read if one is not None]
        if key == "faces":
            scales = [settings.side / np.array(one.shape[1::-1], np.float32) for one in whole]
        if key == "points" and len({len(one) for one in whole}) > 1:
            counted = " and ".join(sorted({str(len(one)) for one in whole}))
            return Record(raw.clip, refused=f"pictures: in {folder} are {counted} points")
        arrays[key] = np.stack(whole if key == "points" else [_scaled(one, settings.side) for one in whole])
    counts = {len(of) for of in arrays.values()}
    if len(counts) > 1:
        return Record(raw.clip, refused=f"pictures: {' and '.join(f'{len(of)} {key}' for key, of in arrays.items())}")
    if "points" in arrays:
        arrays["points"] = arrays["points"] * np.stack(scales)[:, None]
    return Record(raw.clip, arrays | {"times": np.arange(counts.pop()) / settings.fps})


def _given(settings: Settings) -> dict[str, str]:
    every = {"faces": settings.faces, "drawings": settings.drawings, "points": settings.points}
    return {key: folder for key, folder in every.items() if folder is not None}


def _folders(annotations: Path, key: str, folder: str) -> dict[str, list[Path]]:
    found = _by_clip(annotations / PICTURES / folder)
    if not found:
        of = f"points ({POINTS_SUFFIX})" if key == "points" else f"pictures ({', '.join(PICTURE_SUFFIXES)})"
        raise InputError(
            f"params.yaml: pictures.{key} = {folder!r}; allowed: a folder below data/archives/ with a folder of {of} for"
            " every clip"
        )
    return found


@cache
def _by_clip(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures of each folder in a folder, by its name, in order."""
    found: dict[str, list[Path]] = {}
    for path in folder.glob("*/*"):
        found.setdefault(path.parent.name, []).append(path)
    return {clip: sorted(paths, key=_order) for clip, paths in sorted(found.items())}


def _order(path: Path) -> list[tuple[bool, int, str]]:
    """9.jpg comes before 10.jpg."""
    parts = re.split(r"(\d+)", path.stem)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _points(path: Path) -> np.ndarray | None:
    """Return the points (P, 2) between the braces of a file as 300-W's, or None if there is none."""
    inside = re.search(r"\{(.*)\}", path.read_text(errors="replace"), re.DOTALL)
    rows = [line.split() for line in inside[1].strip().splitlines()] if inside else []
    try:
        points = np.array(rows, np.float32)
    except ValueError:
        return None
    return points if points.ndim == 2 and points.shape[1] == 2 and np.isfinite(points).all() else None


def _scaled(picture: np.ndarray, side: int) -> np.ndarray:
    if picture.shape[:2] == (side, side):
        return picture
    how = cv2.INTER_AREA if min(picture.shape[:2]) > side else cv2.INTER_LINEAR
    return cv2.resize(picture, (side, side), interpolation=how)


STREAM = Stream(
    inputs=(RAW,),
    kind="pictures",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    arrays=("faces", "drawings", "points"),
    kinds={"points": "points"},
    annotation_files=annotation_files,
    summary=summary,
)
