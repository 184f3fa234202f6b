"""A split in which no video is shared: the clips dealt out anew, video by video."""

import numpy as np
import pandas as pd

from lib.core.clips import SPLITS
from lib.core.targets import TRAITS

_STRATA = 10


def disjoint(table: pd.DataFrame, seed: int) -> pd.Series:
    """Return a new split for each clip of `table` (columns video, split and the traits), of the same shares as before.

    All clips of a video go to one split. Videos are sorted into ten strata by the mean of their scores, and each stratum
    is dealt out in random order, a video to the split that lacks most, so that the splits' labels are alike.
    """
    share = table["split"].value_counts(normalize=True).reindex(SPLITS, fill_value=0)
    videos = table.assign(score=table[list(TRAITS)].mean(axis=1)).groupby("video")["score"].agg(["mean", "size"])
    order = videos["mean"].rank(method="first", pct=True)
    stratum = np.minimum((order * _STRATA).astype(int), _STRATA - 1)
    rng = np.random.default_rng(seed)
    given = dict.fromkeys(SPLITS, 0)
    chosen: dict[str, str] = {}
    for _, members in videos.groupby(stratum):
        for video in rng.permutation(members.index.to_numpy()):
            dealt = sum(given.values()) + int(members.loc[video, "size"])
            lacks = {split: share[split] * dealt - given[split] for split in SPLITS if share[split] > 0}
            chosen[video] = max(lacks, key=lacks.__getitem__)
            given[chosen[video]] += int(members.loc[video, "size"])
    return table["video"].map(chosen)
