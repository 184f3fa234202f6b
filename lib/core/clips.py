"""The clip table (data/clips.csv): columns, reading, and which clips can be used."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a prediction starts sooner without it
    import pandas as pd

NO_FILE, NO_ANNOTATION = "no file in data/archives", "no annotation"
"""Reasons of what is not there at all."""

SPLITS = ("training", "validation", "test")

SYNTHETIC = ("demo", "demo_emotions")
"""Corpora whose clips are rendered and whose labels are planted."""

PICTURES = "pictures"
"""Below a corpus' annotations, the folder of the user's own pictures."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
POINTS_SUFFIX = ".pts"
"""Of a file of points in a picture, as 300-W's (Sagonas et al. 2013)."""

_FIRST = ("clip", "video", "corpus", "split", "shard", "file", "sha256")
_LAST = ("start", "end", "duration", "fps", "width", "height", "audio", "damaged", "reason")
_TEXT = (
    *_FIRST,
    "reason",
    "targets",
    "target",
    "subset",
    "predictor",
    "score",
    "kind",
    "what",
    "group",
    "step",
    "control",
)


def column_names(targets: Iterable[str]) -> list[str]:
    """Return the table's columns in order, `targets` among them."""
    return [*_FIRST, *targets, *_LAST]


def split_by_shard(clips: "pd.DataFrame") -> "dict[str, pd.DataFrame]":
    """Return each shard's rows, sorted by clip."""
    return {str(shard): rows.sort_values("clip") for shard, rows in clips.groupby("shard")}


def read_clip_table(path: Path, usable_only: bool = True) -> "pd.DataFrame":
    """Read a clip table; without the refused clips (those with a reason) unless told otherwise.

    Text is text, also where it says NA, and empty where there is none; a number that is not there is NaN.
    """
    clips = read_csv(path)
    return clips[clips["reason"] == ""].reset_index(drop=True) if usable_only else clips


def read_csv(path: Path) -> "pd.DataFrame":
    """Read a CSV file of ours: names are text, whatever they say; in the other columns an empty cell is NaN."""
    import pandas as pd

    header = pd.read_csv(path, nrows=0).columns
    names = [column for column in header if column in _TEXT]
    numbers = {column: [""] for column in header if column not in _TEXT}
    return pd.read_csv(path, dtype=dict.fromkeys(names, str), keep_default_na=False, na_values=numbers)


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table for `read_csv`, numbers with six decimals."""
    table.to_csv(path, index=False, float_format="%.6f")
