"""What is known of a clip without watching it: the person's groups, and how the clip was recorded.

The regressions on these numbers are baselines (lib/scoring/baselines.py): a model that is not better knows no more than who
is in a clip and how it was filmed.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.core import shards
from lib.streams import base, faces

BOTH, GROUPS, RECORDING = "attributes", "groups", "recording"
"""Names of the tables, whose baselines are ridge_attributes, ridge_groups and ridge_recording."""
_MEASURED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "face size": (("behaviour", "face_size.mean"),),
    "loudness": (("voice", "level.mean"),),
    "speech": (("voice", "speech.fraction"),),
}
"""Streams that measure a number of the recording, and the measure's name."""


def tabulate_attributes(
    clips: pd.DataFrame, persons: pd.DataFrame, vectors: Mapping[str, pd.DataFrame], data: Path
) -> dict[str, pd.DataFrame]:
    """Return the attributes of the clips by name of the table, with a row for each clip and named columns.

    groups: 1 or 0 for each group of persons, such as gender, age and ethnicity; persons: a row for each clip (index), a text
    column for each kind of group, '' if unknown. recording: `measure_recording`. attributes: both together. Each table is
    there if it says something about a clip; with only one of the two, it is `attributes`.
    """
    tables = {GROUPS: encode_groups(clips, persons), RECORDING: measure_recording(clips, vectors, data)}
    tables = {name: table for name, table in tables.items() if table.shape[1]}
    joined = {BOTH: pd.concat([*tables.values()], axis=1)} if tables else {}
    return joined | (tables if len(tables) > 1 else {})


def encode_groups(clips: pd.DataFrame, persons: pd.DataFrame) -> pd.DataFrame:
    """Return a column `KIND: GROUP` of 0 and 1 for each group of persons with clips; 0 everywhere if it is unknown."""
    groups = persons.reindex(clips["clip"]).fillna("")
    columns = {
        f"{kind}: {group}": (groups[kind] == group).astype(float)
        for kind in groups
        for group in sorted({*groups[kind]} - {""})
    }
    return pd.DataFrame(columns, index=pd.Index(clips["clip"].to_numpy()))


def measure_recording(clips: pd.DataFrame, vectors: Mapping[str, pd.DataFrame], data: Path) -> pd.DataFrame:
    """Return the length of each clip in seconds, brightness and size of the face, loudness in dB, and fraction of speech.

    They come from what the streams in `data` store; a number without a stream, or without differences between clips, is left
    out. A clip whose number is unknown has NaN. face size: in frame heights (stream behaviour), else the median distance of
    the eyes in pixels. brightness: of the face, 0 to 1. loudness: level of speech (stream voice), else the mean over log-mel
    bands.
    """
    index = pd.Index(clips["clip"].to_numpy())
    measured = {"length": pd.Series(clips["duration"].to_numpy(float), index)} if "duration" in clips else {}
    for name, places in _MEASURED.items():
        for stream, column in places:
            if stream in vectors and column in vectors[stream]:
                measured[name] = vectors[stream][column]
    measured |= {name: values for name, values in _measure_faces(vectors, data) if name not in measured}
    if "loudness" not in measured and (values := _measure_bands(vectors, data)) is not None:
        measured["loudness"] = values
    table = pd.DataFrame({name: values.reindex(index) for name, values in measured.items()}, index)
    return table.loc[:, [bool(values.nunique() > 1) for _, values in table.items()]].astype(float)


def _measure_faces(vectors: Mapping[str, pd.DataFrame], data: Path) -> Iterator[tuple[str, pd.Series]]:
    """Yield brightness and size of the faces, as far as a stream of faces or of descriptors has them."""
    info_path = data / "descriptors" / base.ABOUT
    if info_path.exists() and "descriptors" in vectors:
        cells = json.loads(info_path.read_text())["settings"]["face_cells"]
        yield "brightness", vectors["descriptors"].iloc[:, : 3 * cells**2].mean(axis=1)
    if (data / "faces" / base.ABOUT).exists():
        measured = dict(_read_faces(data / "faces", sample_pixels=not info_path.exists()))
        table = pd.DataFrame.from_dict(measured, orient="index", columns=["face size", "brightness"])
        yield "face size", table["face size"]
        if not info_path.exists():
            yield "brightness", table["brightness"]


def _read_faces(folder: Path, sample_pixels: bool) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield each clip, the median distance of the eyes in pixels, and brightness (0 to 1); NaN unless `sample_pixels`."""
    paths = sorted(folder.glob("*.h5"))
    for path in tqdm(paths, desc="brightness and size of faces", unit="shard", disable=None):
        with shards.open_shard(path) as file:
            for clip, group in file.items():
                record = shards.read_group(group)
                if record.rejected:
                    continue
                if sample_pixels:
                    size, brightness, _ = faces.statistics(record).values()
                    yield clip, (size, brightness / 255)
                else:
                    yield clip, (faces.measure_size(record), np.nan)


def _measure_bands(vectors: Mapping[str, pd.DataFrame], data: Path) -> pd.Series | None:
    """Return the mean level of each clip's log-mel bands in dB; None without the stream audio."""
    info_path = data / "audio" / base.ABOUT
    if "audio" not in vectors or not info_path.exists():
        return None
    (bands,) = json.loads(info_path.read_text())["shapes"]["log_mel"]
    return vectors["audio"].iloc[:, :bands].mean(axis=1)  # the pooled vector begins with the mean of each band
