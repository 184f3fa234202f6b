"""Clips' vectors on a plane, and whether the clips of a video lie together."""

import numpy as np
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

_LEAST = 4  # clips
_PERPLEXITY = 30.0


def embed_in_plane(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return places (N, 2) of standardised vectors (N, D) by t-SNE (van der Maaten and Hinton 2008), which keeps neighbours
    together; distances between groups, and axes, mean nothing. NaN for fewer than four clips."""
    if len(vectors) < _LEAST:
        return np.full((len(vectors), 2), np.nan)
    scaled = StandardScaler().fit_transform(vectors)
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    with threadpool_limits(1):  # in which order threads add up differs from run to run
        return np.asarray(TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(scaled), float)


def same_video_rates(vectors: np.ndarray, videos: np.ndarray) -> tuple[float, float]:
    """Return which part of the clips whose video has others among them has one of these as its nearest neighbour, by
    standardised vectors (N, D), and which part would by chance; NaN where no video has two clips."""
    others = np.array([(videos == video).sum() - 1 for video in videos])
    if not (others > 0).any():
        return np.nan, np.nan
    scaled = StandardScaler().fit_transform(vectors)
    nearest = NearestNeighbors(n_neighbors=1).fit(scaled).kneighbors(return_distance=False)[:, 0]
    return float((videos[nearest] == videos)[others > 0].mean()), float(others[others > 0].mean() / (len(videos) - 1))
