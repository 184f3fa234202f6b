"""Pairs of clips in different splits that may show one person, although their videos differ."""

import numpy as np
import pandas as pd

from lib.core.clips import SPLITS

NETWORK, SIZE = "sface", 128
"""The only network of `embeddings` whose similarities the limits below fit, and the size of its embeddings."""
POSSIBLE, PROBABLE = 0.627, 0.744
"""Cosine similarities of the clips' mean SFace embeddings, measured on First Impressions V2: 1 in 1000 pairs of clips of
different videos exceeds the first, half of the pairs of clips of one video exceed the second."""
MAX_PAIRS = 10_000
"""Largest number of pairs in the table."""
COLUMNS = ("clip", "video", "split", "other_clip", "other_video", "other_split", "cosine")

_BLOCK, _CELLS = 512, 2**26
"""Largest numbers of clips, and of similarities, in a block: 256 MB and as much for the comparisons."""


def find_same_persons(embeddings: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of clips of different videos and splits with a cosine similarity of at least POSSIBLE, most similar
    first, at most MAX_PAIRS. The time grows with the square of the number of clips, the memory does not.

    embeddings: by clip, SIZE numbers, the mean over the clip's faces, and perhaps others. clips: the columns clip, video and
    split. Columns: COLUMNS; the pair's first clip is in the later split, so that a test clip precedes a training clip.
    """
    clips = clips[clips["clip"].isin(embeddings.index) & clips["split"].isin(SPLITS)]
    values = embeddings.loc[clips["clip"]].to_numpy(np.float32)[:, :SIZE]
    units = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    position = clips["split"].map(SPLITS.index).to_numpy()
    video = clips["video"].factorize()[0]
    pairs, rows = np.empty((0, 3)), max(1, min(_BLOCK, _CELLS // max(1, len(units))))
    later = np.flatnonzero(position > 0)
    for start in range(0, len(later), rows):
        block = later[start : start + rows]
        cosine = units[block] @ units.T
        is_pair = (position[block, None] > position) & (video[block, None] != video) & (cosine >= POSSIBLE)
        first, second = np.nonzero(is_pair)
        pairs = np.concatenate([pairs, np.column_stack([block[first], second, cosine[first, second]])])
        pairs = pairs[np.argsort(-pairs[:, 2], kind="stable")][:MAX_PAIRS]
    first, second = pairs[:, :2].astype(int).T
    named = clips[["clip", "video", "split"]].reset_index(drop=True)
    others = named.add_prefix("other_").iloc[second].reset_index(drop=True)
    table = pd.concat([named.iloc[first].reset_index(drop=True), others], axis=1)
    return table.assign(cosine=pairs[:, 2].round(4))[list(COLUMNS)]
