"""Embedding map: the clips' feature vectors projected to a plane."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.core.artifacts import EMBEDDING_MAP
from lib.core.clips import write_csv
from lib.scoring import maps

OUTPUTS = (EMBEDDING_MAP,)

_COLUMNS = "features", "clip", "video", "split", "x", "y", "same_video", "same_video_by_chance"


def run(context: Context) -> None:
    table = project_to_plane(context.features, context.all_clips, context.settings.map_clips, context.seed)
    write_csv(EMBEDDING_MAP, table)


def project_to_plane(features: Mapping[str, pd.DataFrame], clips: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Return the coordinates of up to `count` clips on a plane, for each of the `features`.

    Clips are those of random videos, all clips of each video, except perhaps of the last. Columns: features, clip, video,
    split, x and y; and, one value for all clips, same_video and same_video_by_chance from `maps.measure_same_video_rates`.
    """
    videos = np.random.default_rng(seed).permutation(clips["video"].unique())
    order = np.argsort(pd.Index(videos).get_indexer(clips["video"]), kind="stable")
    selected = clips.iloc[order[:count]]
    tables = []
    for name, vectors in features.items() if len(selected) else ():
        values = vectors.loc[selected["clip"]].to_numpy()
        x, y = maps.embed_in_plane(values, seed).T
        same_video, by_chance = maps.measure_same_video_rates(values, selected["video"].to_numpy())
        table = selected[["clip", "video", "split"]].assign(features=name, x=x, y=y)
        tables.append(table.assign(same_video=same_video, same_video_by_chance=by_chance))
    return concatenate_tables(tables, _COLUMNS)
