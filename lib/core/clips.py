"""The clip table (data/clips.csv): names, columns, and which clips can be used."""

import re
from pathlib import Path

import pandas as pd

from lib.core.errors import InputError
from lib.core.targets import SCORES

SPLITS = ("training", "validation", "test")
COLUMNS = (
    "clip", "video", "split", "shard", "file", "sha256", *SCORES,
    "duration", "fps", "width", "height", "audio", "reason",
)  # fmt: skip

_CLIP_NAME = re.compile(r"(?P<video>.+)\.\d{3}\.mp4", re.DOTALL)


def video_of(clip: str) -> str:
    """Return the id of the video that a clip was cut from: `-AmMDnVl4s8` for `-AmMDnVl4s8.003.mp4`."""
    match = _CLIP_NAME.fullmatch(clip)
    if match is None:
        raise InputError(f"clip name {clip!r} is not of the form VIDEO.NNN.mp4 (as in J4GQm9j0JZ0.003.mp4)")
    return match["video"]


def by_shard(clips: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each sub-folder's rows, sorted by clip: what becomes one shard."""
    return {str(shard): rows.sort_values("clip") for shard, rows in clips.groupby("shard")}


def read(path: Path, usable_only: bool = True) -> pd.DataFrame:
    """Read a clip table; without the refused clips (those with a reason) unless told otherwise."""
    clips = pd.read_csv(
        path, dtype=dict.fromkeys(("clip", "video", "corpus", "shard", "file", "reason"), str), keep_default_na=True
    )
    clips["reason"] = clips["reason"].fillna("")
    return clips[clips["reason"] == ""].reset_index(drop=True) if usable_only else clips
