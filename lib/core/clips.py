"""Read and write the clip table (data/clips.csv) and the other tables of the project."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # a prediction starts sooner without it
    import pandas as pd

NO_FILE, NO_ANNOTATION = "no file in data/archives", "no annotation"
"""Reasons why a clip of the table has no file, or a file no row."""

SPLITS = ("training", "validation", "test")

SYNTHETIC = ("demo", "demo_emotions")
"""Corpora with rendered clips and planted labels."""

PICTURES = "pictures"
"""Folder for the user's own images, in the folder of a corpus' annotations."""

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".wmv",
    ".asf", ".flv", ".f4v", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv", ".ogm", ".gif", ".mxf", ".nut", ".dv", ".rm",
    ".rmvb", ".wtv", ".gxf", ".ivf", ".obu", ".h264", ".264", ".hevc", ".h265", ".265", ".mjpeg", ".mjpg", ".amv",
)  # fmt: skip
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
POINTS_SUFFIX = ".pts"
"""Suffix of a file with points in an image, in the format of 300-W (Sagonas et al. 2013)."""

_FIRST = ("clip", "video", "corpus", "split", "shard", "file", "sha256")
_LAST = ("start", "end", "duration", "fps", "width", "height", "audio", "damaged", "reason")


def column_names(targets: Iterable[str]) -> list[str]:
    """Return all columns of the clip table in order, with `targets` in the middle."""
    return [*_FIRST, *targets, *_LAST]


def describe_origins(data: Mapping[str, Any], split: str) -> str:
    """Return the corpus' own splits that a split's clips come from, given the contents of metrics/data.json.

    Example: `2000 clips of fiv2's validation split`. split: one of SPLITS, or `none` for clips without a split. The text is
    empty without clips, or if no corpus has a split of its own.
    """
    origins = data.get("origins", {}).get(split, {})
    if not any(name for of_corpus in origins.values() for name in of_corpus):
        return ""
    return " and ".join(
        f"{count} clips of {corpus}'s {name} split" if name else f"{count} clips of {corpus} without a split"
        for corpus, of_corpus in origins.items()
        for name, count in of_corpus.items()
    )


def describe_left_out(data: Mapping[str, Any]) -> str:
    """Return sentences on held-out corpora and on other usable clips that are in no split; empty without such clips."""
    sentences = [
        f"{clips} clips of {corpus} are held out: no model is trained on them, and evaluate.on can score them."
        for corpus, clips in data.get("held_out", {}).items()
    ]
    return " ".join([*sentences, *filter(None, [_describe_unassigned(data)])])


def _describe_unassigned(data: Mapping[str, Any]) -> str:
    if not (left_out := data.get("left_out")):
        return ""
    first = ", ".join(left_out["first"]) + (", ..." if left_out["clips"] > len(left_out["first"]) else "")
    which = "; ".join(filter(None, [describe_origins(data, "none"), first]))
    return f"{left_out['clips']} usable clips are in no split ({which}): no model is trained or scored on them."


def split_by_shard(clips: "pd.DataFrame") -> "dict[str, pd.DataFrame]":
    """Return the rows of each shard, sorted by clip."""
    return {str(shard): rows.sort_values("clip") for shard, rows in clips.groupby("shard")}


def read_clip_table(path: Path, usable_only: bool = True) -> "pd.DataFrame":
    """Read a clip table; `usable_only` leaves out the rejected clips, which have a reason.

    A text cell stays text, even "NA"; an empty text cell is an empty string. An empty number is NaN.
    """
    clips = read_csv(path, (*_FIRST, "reason"))
    return clips[clips["reason"] == ""].reset_index(drop=True) if usable_only else clips


def read_csv(file: Path | TextIO, text: Collection[str]) -> "pd.DataFrame":
    """Read a table of the project. Cells of the columns `text` stay text; in other columns an empty cell is NaN.

    Each table names its own text columns (`lib.core.artifacts.TEXT_COLUMNS`): a user's target can have any name.
    """
    import pandas as pd

    names = pd.read_csv(file, nrows=0).columns
    if not isinstance(file, Path):
        file.seek(0)
    numbers = {column: [""] for column in names if column not in text}
    return pd.read_csv(file, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=numbers)


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table for `read_csv`, numbers with six decimals."""
    table.to_csv(path, index=False, float_format="%.6f")
