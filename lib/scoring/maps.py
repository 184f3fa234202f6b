"""Vectors of clips projected to a plane, and rates of neighbours from the same video."""

import numpy as np
from threadpoolctl import threadpool_limits

_LEAST = 4  # clips
_PERPLEXITY = 30.0


def embed_in_plane(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return coordinates (N, 2) of standardised vectors (N, D) by t-SNE (van der Maaten and Hinton 2008); NaN for fewer than
    four clips. t-SNE keeps neighbours together; axes and distances between groups have no meaning."""
    from sklearn.manifold import TSNE  # it takes a second to load
    from sklearn.preprocessing import StandardScaler

    if len(vectors) < _LEAST:
        return np.full((len(vectors), 2), np.nan)
    scaled = StandardScaler().fit_transform(vectors)
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    with threadpool_limits(1):  # the order in which threads add numbers differs between runs
        return np.asarray(TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(scaled), float)


def measure_same_video_rates(vectors: np.ndarray, videos: np.ndarray) -> tuple[float, float]:
    """Return the fraction of clips whose nearest neighbour is of the same video, and the fraction expected at random.

    Neighbours are by standardised vectors (N, D). Only clips count whose video has another clip; NaN if no video has two.
    """
    from sklearn.neighbors import NearestNeighbors  # it takes a second to load
    from sklearn.preprocessing import StandardScaler

    others = np.array([(videos == video).sum() - 1 for video in videos])
    if not (others > 0).any():
        return np.nan, np.nan
    scaled = StandardScaler().fit_transform(vectors)
    nearest = NearestNeighbors(n_neighbors=1).fit(scaled).kneighbors(return_distance=False)[:, 0]
    return float((videos[nearest] == videos)[others > 0].mean()), float(others[others > 0].mean() / (len(videos) - 1))
