"""Select the clips that have the streams and labels that a model needs."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lib.core import shards
from lib.core.errors import InputError, SettingError
from lib.core.targets import Targets
from lib.data.dataset import scale_labels
from lib.data.inputs import EncoderSettings, list_streams, split_reference
from lib.data.shard_cache import read_cached

if TYPE_CHECKING:  # predictions do not need pandas, which loads slowly
    import pandas as pd


def select_usable(
    table: "pd.DataFrame",
    data: Path,
    settings_by_encoder: Mapping[str, EncoderSettings],
    missing: Literal["drop", "keep"],
) -> "pd.DataFrame":
    """Return the clips with all streams that the encoders read, or with "keep" those with all streams of one encoder.

    The streams are folders of shards below `data`. Raises InputError if a shard, or a clip in a shard, is missing.
    """
    import pandas as pd

    accepted = {
        stream: ~table["clip"].isin(read_rejections(table, data, stream))
        for stream in list_streams(settings_by_encoder)
    }
    by_encoder = [
        pd.concat([accepted[split_reference(reference)[0]] for reference in encoder_settings.reads], axis=1).all(axis=1)
        for encoder_settings in settings_by_encoder.values()
    ]
    is_complete = pd.concat(by_encoder, axis=1)
    return table[is_complete.all(axis=1) if missing == "drop" else is_complete.any(axis=1)].reset_index(drop=True)


def read_rejections(table: "pd.DataFrame", data: Path, stream: str) -> dict[str, str]:
    """Return the reason for each clip that a stream rejected. Raises InputError if a shard, or a clip in it, is missing."""
    reasons: dict[str, str] = {}
    for shard, rows in table.groupby("shard"):
        path = data / stream / f"{shard}.h5"
        if not path.exists():
            raise InputError(f"{path} is missing; run `dvc repro {stream}`")
        if (cached := read_cached(data, stream, str(shard))) is not None:
            _check_available(path, stream, rows["clip"], cached)
            reasons |= {clip: cached[clip].rejected for clip in rows["clip"] if cached[clip].rejected}
            continue
        with shards.open_shard(path) as file:
            _check_available(path, stream, rows["clip"], file)
            attributes = {clip: file[clip].attrs for clip in rows["clip"]}
            reasons |= {
                clip: str(attributes_of_clip["rejected"])
                for clip, attributes_of_clip in attributes.items()
                if "rejected" in attributes_of_clip
            }
    return reasons


def _check_available(path: Path, stream: str, clips: Iterable[str], available: Iterable[str]) -> None:
    if missing := sorted(set(clips) - set(available)):
        raise InputError(
            f"clip {missing[0]} is missing in {path} ({len(missing)} clips in total); run `dvc repro {stream}`"
        )


def count_lost(
    table: "pd.DataFrame", usable: Iterable[str], data: Path, settings_by_encoder: Mapping[str, EncoderSettings]
) -> "pd.DataFrame":
    """Return the number of clips of `table` that are not in `usable`, by stream (step), reason and split.

    A clip counts for the first stream that rejected it. Reasons end at their colon. A stream without rejected clips has
    a row with 0 clips.
    """
    import pandas as pd

    lost = table[~table["clip"].isin(set(usable))]
    rows: list[tuple[str, str, str, int]] = []
    for stream in list_streams(settings_by_encoder):
        reasons = read_rejections(lost, data, stream)
        lost_here = lost[lost["clip"].isin(reasons)]
        counts = Counter(
            (reasons[clip].partition(":")[0], split)
            for clip, split in zip(lost_here["clip"], lost_here["split"], strict=True)
        )
        rows += [(stream, *reason_and_split, clips) for reason_and_split, clips in sorted(counts.items())] or [
            (stream, "", "", 0)
        ]
        lost = lost.drop(lost_here.index)
    return pd.DataFrame(rows, columns=["step", "reason", "split", "clips"])


def select_videos(table: "pd.DataFrame", clips: int | None, seed: int) -> "pd.DataFrame":
    """Return all clips of randomly selected videos, up to `clips` clips in total; None returns all clips.

    Videos are ordered by a hash (SHA-256) of seed and name, so that a smaller selection is a subset of a larger one. Raises
    InputError if the table has fewer clips, or the first video has more.
    """
    if clips is None:
        return table
    if clips > len(table):
        raise SettingError(f"train.clips = {clips}; allowed: null, or up to {len(table)}, the number of training clips")
    clips_of_video = table["video"].value_counts()
    order = sorted(clips_of_video.index, key=lambda video: hashlib.sha256(f"{seed}/{video}".encode()).digest())
    selected = np.array(order)[clips_of_video[order].cumsum().to_numpy() <= clips]
    if not len(selected):
        raise SettingError(
            f"train.clips = {clips}; allowed with train.seed = {seed}: at least {clips_of_video[order[0]]}"
        )
    return table[table["video"].isin(selected)].reset_index(drop=True)


def mask_labelled(table: "pd.DataFrame", targets: Targets) -> np.ndarray:
    """Return (N,) whether a clip has a label for any target."""
    return np.any([np.isfinite(values).any(1) for values in scale_labels(table, targets).values()], axis=0)
