"""Pairs of clips in different splits that may show one person, although their videos differ."""

import itertools

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.core.clips import SPLITS

NETWORK, SIZE = "sface", 128
"""The only network of `embeddings` whose similarities the limits below fit, and the size of its embeddings."""
POSSIBLE, PROBABLE = 0.627, 0.744
"""Cosine similarities of the clips' mean SFace embeddings, measured on First Impressions V2: 1 in 1000 pairs of clips of
different videos exceeds the first, half of the pairs of clips of one video exceed the second."""
MAX_PAIRS = 10_000
"""Largest number of pairs in the table."""
COLUMNS = ("clip", "video", "split", "other_clip", "other_video", "other_split", "cosine")

_ROWS, _COLUMNS = 1024, 8192
"""Numbers of clips in a block of similarities: 32 MB."""


def find_same_persons(embeddings: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of clips of different videos and splits with a cosine similarity of at least POSSIBLE, most similar
    first, at most MAX_PAIRS.

    All pairs of different splits are compared, so the time grows with the square of the number of clips; a progress bar
    shows the time left. The memory grows linearly.

    embeddings: by clip, SIZE numbers, the mean over the clip's faces, and perhaps others. clips: the columns clip, video and
    split. Columns: COLUMNS; the pair's first clip is in the later split, so that a test clip precedes a training clip.
    """
    clips = clips[clips["clip"].isin(embeddings.index) & clips["split"].isin(SPLITS)]
    values = embeddings.loc[clips["clip"]].to_numpy(np.float32)[:, :SIZE]
    units = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    position = clips["split"].map(SPLITS.index).to_numpy(int)
    first, second, cosine = _find_pairs(units, position, clips["video"].factorize()[0])
    named = clips[["clip", "video", "split"]].reset_index(drop=True)
    others = named.add_prefix("other_").iloc[second].reset_index(drop=True)
    table = pd.concat([named.iloc[first].reset_index(drop=True), others], axis=1)
    return table.assign(cosine=cosine.round(4))[list(COLUMNS)]


def _find_pairs(
    units: np.ndarray, position: np.ndarray, video: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of the pairs' clips and their similarities, from unit vectors (N, D), splits and videos (N,)."""
    order = np.argsort(position, kind="stable")
    units, video = units[order], video[order]
    starts = np.searchsorted(position[order], range(len(SPLITS) + 1))
    blocks = [
        (slice(row, min(row + _ROWS, stop)), slice(column, min(column + _COLUMNS, start)))
        for start, stop in itertools.pairwise(starts[1:])
        for row in range(start, stop, _ROWS)
        for column in range(0, start, _COLUMNS)
    ]
    pairs, bound = np.empty((0, 3)), POSSIBLE
    for rows, columns in tqdm(blocks, desc="same person", unit="block", disable=None):
        cosine = units[rows] @ units[columns].T
        row, column = np.divmod(np.flatnonzero(cosine >= bound), cosine.shape[1])
        is_pair = video[rows][row] != video[columns][column]
        row, column = row[is_pair], column[is_pair]
        similar = np.column_stack([order[rows][row], order[columns][column], cosine[row, column]])
        pairs = np.concatenate([pairs, similar])
        if len(pairs) > MAX_PAIRS:
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], -pairs[:, 2]))][:MAX_PAIRS]
            bound = pairs[-1, 2]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], -pairs[:, 2]))]
    first, second = pairs[:, :2].astype(int).T
    return first, second, pairs[:, 2]
