"""Match video files with annotations: a table with a row for each clip or file, and a reason for each rejected row."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from tqdm import tqdm

from lib.core import resume
from lib.core.clips import NO_ANNOTATION, NO_FILE, SPLITS, VIDEO_SUFFIXES, column_names
from lib.core.errors import InputError, describe_internal_error, log_once
from lib.media.frames import probe_video
from lib.media.packets import Span, VideoError
from lib.sources._matching import show_three
from lib.sources.base import Source

_UNKNOWN_PROPERTIES = {"frames": 0, "duration": math.nan}


@dataclass(frozen=True)
class Corpus:
    """The files of a source (`files`, relative to `folder`) and its annotated clips (`rows`)."""

    name: str
    source: Source
    folder: Path
    files: Sequence[Path]
    rows: pd.DataFrame


def build_clip_table(
    corpora: Sequence[Corpus],
    videos: bool,
    min_seconds: float,
    min_frames: int,
    max_seconds: float = math.inf,
    max_damaged: float = 1.0,
) -> pd.DataFrame:
    """Return data/clips.csv's table: a row for each annotated clip and each video file, sorted by clip.

    The column `reason` is empty for a usable clip, else it has the first of these reasons: no annotation, no file, a problem
    that the source reports, an unreadable file, no video stream, too short or too long, too many damaged frames, the same
    bytes as another annotated clip. With `videos` False, files are not required. A file without annotation that equals
    another corpus' clip is left out. Raises InputError if two corpora have a clip of the same name.
    """
    probes = _probe_all(corpora) if videos else {}
    annotated = [
        (row | {"corpus": corpus.name}, corpus) for corpus in corpora for row in corpus.rows.to_dict("records")
    ]
    rows: dict[str, dict[str, Any]] = {}
    first_with: dict[tuple[Any, ...], dict[str, Any]] = {}
    annotated_files: set[tuple[Any, ...]] = set()
    for row, corpus in sorted(annotated, key=lambda pair: str(pair[0]["clip"])):
        if other := rows.get(row["clip"]):
            raise InputError(
                f"clip {row['clip']} is in the corpora {other['corpus']} and {row['corpus']}; rename it in one of them,"
                " or take one of them out of download.sources"
            )
        where = _place(row)
        probe = probes.get(where)
        annotated_files.add(where[:2])
        twin = first_with.setdefault((probe["sha256"] or row["clip"], *where[2:]), row) if probe else row
        wrong = corpus.source.problem(row)
        if videos and probe is None:
            wrong = NO_FILE
        elif probe and not wrong:
            wrong = (
                probe["reason"]
                or _length_problem(probe, min_seconds, min_frames, max_seconds)
                or _damage_problem(probe, max_damaged)
            )
            if not wrong and twin["clip"] != row["clip"]:
                wrong = f"duplicate: the same bytes as {twin['clip']}"
        rows[row["clip"]] = row | (probe or {}) | {"reason": wrong}
    for (corpus_name, file, *_), probe in probes.items():
        if (corpus_name, file) in annotated_files:
            continue
        name, twin = Path(file).name, first_with.get((probe["sha256"], None, None), {})
        if twin and (twin["corpus"] != corpus_name or twin["clip"] == name):
            continue
        name = name if name not in rows else f"{corpus_name}_{file.replace('/', '_')}"
        place = {"corpus": corpus_name, "shard": Path(file).parts[0], "file": file}
        rows[name] = {"clip": name, "video": "", "split": ""} | place | probe | {"reason": NO_ANNOTATION}
    for row in rows.values():
        row["shard"] = f"{row['corpus']}-{row['shard']}"
        row["file"] = row["file"] and f"{row['corpus']}/{row['file']}"
    targets = [column for corpus in corpora for column in corpus.rows if column not in column_names([])]
    table = pd.DataFrame(list(rows.values())).reindex(columns=column_names(dict.fromkeys(targets)))
    return table.sort_values("clip", ignore_index=True)


def summary(table: pd.DataFrame, corpus_split: pd.Series, held_out: Sequence[str] = ()) -> dict[str, Any]:
    """Count clips, videos and rejected clips by reason, in total and for each corpus, and the videos that splits share.

    corpus_split: the split that the corpus itself gives each clip. `origins` counts the clips of each split by corpus and by
    this split; `left_out` has the number of usable clips without a split, and the first three. Both leave out the corpora
    that are `held_out`, whose usable clips `held_out` counts.
    """
    usable = table[table["reason"] == ""]
    split_clips = usable[~usable["corpus"].isin(held_out)]
    counts = {name: int((usable["corpus"] == name).sum()) for name in held_out}
    videos = {split: set(usable.loc[usable["split"] == split, "video"]) for split in SPLITS}
    return (
        _counts(table)
        | {
            "videos": {split: len(names) for split, names in videos.items()},
            "videos_shared_with_training": {
                split: len(videos[split] & videos["training"]) for split in ("validation", "test")
            },
            "hours": round(float(usable["duration"].sum()) / 3600, 3),
            "corpora": {str(name): _counts(rows) for name, rows in table.groupby("corpus")},
            "origins": _count_origins(split_clips, corpus_split),
        }
        | _list_left_out(split_clips)
        | ({"held_out": counts} if counts else {})
    )


def show_unmatched(table: pd.DataFrame) -> str:
    """Return a clip without a file and three files without annotation, for a message; empty unless there are both."""
    clips, files = (table.loc[table["reason"] == why, "clip"].tolist() for why in (NO_FILE, NO_ANNOTATION))
    return f"; {clips[0]!r} matches no file; files without a row: {show_three(files)}" if clips and files else ""


def _count_origins(usable: pd.DataFrame, corpus_split: pd.Series) -> dict[str, dict[str, dict[str, int]]]:
    """Return the number of clips by split (`none` if empty), corpus and the corpus' own split."""
    origins: dict[str, dict[str, dict[str, int]]] = {}
    places = [usable["split"].replace("", "none"), usable["corpus"], corpus_split[usable.index]]
    for (split, corpus, own_split), rows in usable.groupby(places):
        origins.setdefault(split, {}).setdefault(corpus, {})[own_split] = len(rows)
    return origins


def _list_left_out(usable: pd.DataFrame) -> dict[str, Any]:
    left_out = usable.loc[usable["split"] == "", "clip"]
    return {"left_out": {"clips": len(left_out), "first": left_out.head(3).tolist()}} if len(left_out) else {}


def _counts(table: pd.DataFrame) -> dict[str, Any]:
    usable = table[table["reason"] == ""]
    return {
        "annotated": int((table["reason"] != NO_ANNOTATION).sum()),
        "files": int((table["file"] != "").sum()),
        "usable": len(usable),
        "rejected": dict(sorted(Counter(reason.split(":")[0] for reason in table["reason"] if reason).items())),
        "clips": {split: int((usable["split"] == split).sum()) for split in SPLITS},
    }


def _length_problem(probe: dict[str, Any], min_seconds: float, min_frames: int, max_seconds: float) -> str:
    if probe["frames"] < min_frames:
        return f"too short: {probe['frames']} frames, download.min_frames is {min_frames}"
    if probe["duration"] < min_seconds:
        return f"too short: {probe['duration']:.2f} s, download.min_seconds is {min_seconds}"
    if probe["duration"] > max_seconds:
        return f"too long: {probe['duration']:.2f} s, download.max_seconds is {max_seconds}"
    return ""


def _damage_problem(probe: dict[str, Any], max_damaged: float) -> str:
    if probe["damaged"] > max_damaged * probe["frames"]:
        return f"damaged: {probe['damaged']} of {probe['frames']} frames, download.max_damaged is {max_damaged}"
    return ""


Place = tuple[str, str, float | None, float | None]
"""A clip's corpus, file, and start and end in the file in seconds; None and None if the clip is the complete file."""


def _place(row: Mapping[str, Any]) -> Place:
    start, end = (None if math.isnan(row.get(key, math.nan)) else row[key] for key in ("start", "end"))
    return row["corpus"], row["file"], start, end


def _probe_all(corpora: Sequence[Corpus]) -> dict[Place, dict[str, Any]]:
    """Probe all video files in parallel. Where clips are parts of a file, each part is probed instead of the file."""
    spans: dict[Path, list[Place]] = {
        corpus.folder / file: [(corpus.name, file.as_posix(), None, None)]
        for corpus in corpora
        for file in corpus.files
        if file.suffix.lower() in VIDEO_SUFFIXES
    }
    for corpus in corpora:
        if "start" in corpus.rows:
            for file, rows in corpus.rows[corpus.rows["start"].notna()].groupby("file"):
                spans[corpus.folder / str(file)] = [
                    _place(row | {"corpus": corpus.name}) for row in rows.to_dict("records")
                ]
    probes = joblib.Parallel(n_jobs=-1, return_as="generator")(
        joblib.delayed(_probe_parts)(path, [place[2:] for place in places]) for path, places in spans.items()
    )
    bar = tqdm(probes, desc="verify", total=len(spans), unit="file", disable=None)
    probe_of = {
        place: probe
        for places, of_file in zip(spans.values(), bar, strict=True)
        for place, probe in zip(places, of_file, strict=True)
    }
    for probe in probe_of.values():
        if trace := probe.pop("traceback", ""):
            log_once("download", trace)
    return probe_of


def _probe_parts(path: Path, spans: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    try:
        digest = resume.hash_file(path)
    except OSError as error:
        reason, trace = describe_internal_error(error)
        return [{"sha256": "", "reason": reason, "traceback": trace, **_UNKNOWN_PROPERTIES} for _ in spans]
    return [_probe(path, digest, None if span[0] is None else span) for span in spans]


def _probe(path: Path, digest: str, span: Span | None) -> dict[str, Any]:
    try:
        stream = probe_video(path, span)
    except VideoError as error:
        return {"sha256": digest, "reason": f"file: {error}", **_UNKNOWN_PROPERTIES}
    except Exception as error:
        reason, trace = describe_internal_error(error)
        return {"sha256": digest, "reason": reason, "traceback": trace, **_UNKNOWN_PROPERTIES}
    return {
        "sha256": digest,
        "reason": "",
        "frames": stream.frames,
        "duration": round(stream.duration, 3),
        "fps": round(stream.fps, 3),
        "width": stream.width,
        "height": stream.height,
        "audio": stream.audio,
        "damaged": stream.damaged,
    }
