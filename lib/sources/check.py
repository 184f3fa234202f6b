"""Hold the clips that are there against the annotations: one row for each of either, with a reason for each refusal."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from tqdm import tqdm

from lib.core import clips, resume
from lib.core.errors import InputError
from lib.core.targets import SCORES
from lib.media import video
from lib.sources import fiv2


def read_annotations(folder: Path) -> pd.DataFrame:
    """Return the scores of annotation_SPLIT.pkl for each split there is: a row a clip (the index), and its `split`.

    Raises InputError if there is none, or a clip is in two splits.
    """
    tables = []
    for split in clips.SPLITS:
        path = folder / f"annotation_{split}.pkl"
        if path.exists():
            tables.append(fiv2.read(path).assign(split=split))
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


def clip_table(
    scores: pd.DataFrame, folder: Path, files: Sequence[Path], min_seconds: float, min_frames: int
) -> pd.DataFrame:
    """Return data/clips.csv's table: a row for each annotated clip and each file (paths below `folder`).

    A clip is refused for the first of these: no annotation, no file, a wrong score, a name that names no video,
    a file that does not open or lacks a video stream, frames or seconds, the same bytes as another clip.
    """
    by_name = {file.name: file for file in files}
    probes = joblib.Parallel(n_jobs=-1, return_as="generator")(
        joblib.delayed(_probe)(folder / by_name[name]) for name in sorted(by_name)
    )
    rows: dict[str, dict[str, Any]] = {
        name: {"reason": "no file in data/archives", **dict(scores.loc[name])} for name in scores.index
    }
    first_with: dict[str, str] = {}
    for name, probed in zip(
        sorted(by_name), tqdm(probes, desc="verify", total=len(by_name), unit="clip", disable=None), strict=True
    ):
        row = rows.setdefault(name, {"split": "", **dict.fromkeys(SCORES, math.nan)})
        row |= probed | {"shard": by_name[name].parent.name, "file": by_name[name].as_posix()}
        twin = first_with.setdefault(row["sha256"], name)
        if row["split"] == "":
            row["reason"] = "no annotation"
        elif wrong := fiv2.problem(row):
            row["reason"] = f"score: {wrong}"
        elif not row["reason"] and row["frames"] < min_frames:
            row["reason"] = f"too short: {row['frames']} frames, download.min_frames is {min_frames}"
        elif not row["reason"] and row["duration"] < min_seconds:
            row["reason"] = f"too short: {row['duration']:.2f} s, download.min_seconds is {min_seconds}"
        elif not row["reason"] and twin != name:
            row["reason"] = f"duplicate: the same bytes as {twin}"
    for name, row in rows.items():
        row["clip"] = name
        try:
            row["video"] = clips.video_of(name)
        except InputError as error:
            row["video"], row["reason"] = "", row["reason"] or f"name: {error}"
    table = pd.DataFrame(list(rows.values())).reindex(columns=list(clips.COLUMNS))
    return table.sort_values("clip", ignore_index=True)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Count clips, videos and refusals by kind, and the videos that splits share."""
    usable = table[table["reason"] == ""]
    videos = {split: set(usable.loc[usable["split"] == split, "video"]) for split in clips.SPLITS}
    return {
        "annotated": int((table["split"] != "").sum()),
        "files": int(table["file"].notna().sum()),
        "usable": len(usable),
        "refused": dict(sorted(Counter(reason.split(":")[0] for reason in table["reason"] if reason).items())),
        "clips": {split: int((usable["split"] == split).sum()) for split in clips.SPLITS},
        "videos": {split: len(names) for split, names in videos.items()},
        "videos_shared_with_training": {
            split: len(videos[split] & videos["training"]) for split in ("validation", "test")
        },
        "hours": round(float(usable["duration"].sum()) / 3600, 3),
    }


def _probe(path: Path) -> dict[str, Any]:
    digest = resume.sha256(path)
    try:
        found = video.probe(path)
    except video.VideoError as error:
        return {"sha256": digest, "reason": f"file: {error}", "frames": 0, "duration": math.nan}
    return {
        "sha256": digest,
        "reason": "",
        "frames": found.frames,
        "duration": round(found.duration, 3),
        "fps": round(found.fps, 3),
        "width": found.width,
        "height": found.height,
        "audio": found.audio,
    }
