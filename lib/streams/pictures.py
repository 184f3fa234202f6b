"""Images that the user already has for every clip: faces, and optionally their landmarks as drawings or points."""

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
from lib.core.errors import SettingError
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, Stream, StreamSettings, take_steps


class Settings(StreamSettings):
    """faces, drawings, points: folders below data/archives/ with one sub-folder per clip; for files in an archive, the path
    begins with the archive's name. drawings and points can be None. fps: images per second. side: side in pixels to which
    all images are scaled."""

    faces: Annotated[str, Field(min_length=1)]
    drawings: Annotated[str, Field(min_length=1)] | None
    points: Annotated[str, Field(min_length=1)] | None
    fps: Annotated[float, Field(gt=0, le=1000)]
    side: Annotated[int, Field(ge=16, le=1024)]


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that reads a clip's images."""
    return lambda raw: load_pictures(raw, settings)


def read_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return images as RGB uint8 (K, 3, S, S) or points (K, P, 2); an empty array (K, 0) if the clip has none."""
    values = take_steps(record, indices, array)
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def annotation_files(settings: Settings, annotations: Path) -> list[Path]:
    """Return all files in the folders. Raises InputError for a missing folder."""
    return [
        path
        for key, folder in _named_folders(settings).items()
        for paths in _folders(annotations, key, folder).values()
        for path in paths
    ]


def summary(folder: Path) -> dict[str, Any]:
    """Return the number of faces."""
    return {"faces": sum(map(len, shards.read_arrays(folder, "times")))}


def load_pictures(raw: Raw, settings: Settings) -> Record:
    """Return a clip's `faces` and `times`, and its `drawings` and `points` if the settings name their folders.

    faces, drawings: RGB uint8 (T, S, S, 3). points: float32 (T, P, 2), in pixels of the face. times: (T,), seconds. The
    files are sorted by name, numbers in names by value. A clip is rejected without an image, with an image that can't be
    read, or with different numbers of images of two kinds.
    """
    if raw.annotations is None:
        return Record(raw.clip, rejected="pictures: not available for a clip outside the corpus")
    arrays: dict[str, np.ndarray] = {}
    for key, folder in _named_folders(settings).items():
        paths_by_clip = _folders(raw.annotations, key, folder)
        paths = paths_by_clip.get(raw.clip) or paths_by_clip.get(raw.clip.rpartition(".")[0]) or []
        if not paths:
            return Record(raw.clip, rejected=f"pictures: none in {folder}")
        contents = [_points(path) if key == "points" else cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in paths]
        if damaged := [path.name for path, image in zip(paths, contents, strict=True) if image is None]:
            return Record(raw.clip, rejected=f"pictures: {damaged[0]} in {folder} can't be read")
        images = [image for image in contents if image is not None]
        if key == "faces":
            scales = [settings.side / np.array(image.shape[1::-1], np.float32) for image in images]
        if key == "points" and len({len(image) for image in images}) > 1:
            counted = " and ".join(sorted({str(len(image)) for image in images}))
            return Record(raw.clip, rejected=f"pictures: images in {folder} have {counted} points")
        arrays[key] = np.stack(images if key == "points" else [_scaled(image, settings.side) for image in images])
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        return Record(
            raw.clip, rejected=f"pictures: {' and '.join(f'{len(array)} {key}' for key, array in arrays.items())}"
        )
    if "points" in arrays:
        arrays["points"] = arrays["points"] * np.stack(scales)[:, None]
    return Record(raw.clip, arrays | {"times": np.arange(counts.pop()) / settings.fps})


def _named_folders(settings: Settings) -> dict[str, str]:
    folders = {"faces": settings.faces, "drawings": settings.drawings, "points": settings.points}
    return {key: folder for key, folder in folders.items() if folder is not None}


def _folders(annotations: Path, key: str, folder: str) -> dict[str, list[Path]]:
    paths_by_clip = _by_clip(annotations / PICTURES / folder)
    if not paths_by_clip:
        contents = f"points ({POINTS_SUFFIX})" if key == "points" else f"pictures ({', '.join(PICTURE_SUFFIXES)})"
        raise SettingError(
            f"pictures.{key} = {folder!r}; allowed: a folder below data/archives/ with a folder of"
            f" {contents} for every clip"
        )
    return paths_by_clip


@cache
def _by_clip(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each sub-folder in temporal order, by the sub-folder's name."""
    paths_by_clip: dict[str, list[Path]] = {}
    for path in folder.glob("*/*"):
        paths_by_clip.setdefault(path.parent.name, []).append(path)
    return {clip: sorted(paths, key=_order) for clip, paths in sorted(paths_by_clip.items())}


def _order(path: Path) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 9.jpg comes before 10.jpg."""
    parts = re.split(r"(\d+)", path.stem)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _points(path: Path) -> np.ndarray | None:
    """Return the points (P, 2) between the braces of a file in the format of 300-W; None if the file contains none."""
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
