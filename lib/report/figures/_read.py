"""Attention weights and samples as figures take them."""

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np


class Attention(NamedTuple):
    """A clip's attention weights: looks[query, key] (heads, queries, keys); of each encoder its tokens' times (t,) and
    their grid (h, w) at each; and what it sees, where that is pictures: uint8 (t, H, W, 3)."""

    looks: Mapping[tuple[str, str], np.ndarray]
    times: Mapping[str, np.ndarray]
    grids: Mapping[str, tuple[int, int]]
    pictures: Mapping[str, np.ndarray]


def attention(file: Mapping[str, Any]) -> dict[str, Attention]:
    """Return what data/attention.h5 holds (an open h5py.File), by clip; only clips with weights."""
    found = {}
    for clip, group in file.items():
        tokens, weights = group["tokens"], group["attention"]
        looks = {
            (query, key): weights[f"{query}_to_{key}"][()]
            for query, key in product(tokens, tokens)
            if f"{query}_to_{key}" in weights
        }
        if looks:
            found[clip] = Attention(
                looks,
                {name: of["times"][()] for name, of in tokens.items()},
                {name: (int(of["grid"][0]), int(of["grid"][1])) for name, of in tokens.items()},
                {name: of[()] for name, of in group["pictures"].items()} if "pictures" in group else {},
            )
    return found


class Looked(NamedTuple):
    """How an encoder's places are looked at, mean over clips, in multiples of uniform: by each head (heads, h, w); the same
    with shuffled weights; the rank correlations (clips,) of the two; and the mean picture, uint8 (H, W, 3)."""

    heads: np.ndarray
    shuffled: np.ndarray
    correlations: np.ndarray
    picture: np.ndarray | None


class MeanAttention(NamedTuple):
    """Over how many clips, and of each encoder what is looked at."""

    clips: int
    encoders: Mapping[str, Looked]


def mean_attention(file: Any) -> MeanAttention:
    """Return what data/mean_attention.h5 holds (an open h5py.File)."""
    encoders = {
        name: Looked(
            of["heads"][()],
            of["shuffled"][()],
            of["correlations"][()],
            of["picture"][()] if "picture" in of else None,
        )
        for name, of in file.items()
    }
    return MeanAttention(int(file.attrs["clips"]), encoders)


class Importance(NamedTuple):
    """By target group, method and stream: how much of a prediction hangs on each cell of the face (g, g, K) and each moment
    (m, K), in units of the range; by stream the mean picture, uint8 (H, W, 3); and by target group how far integrated
    gradients miss what they should add up to (clips, K)."""

    cells: Mapping[tuple[str, str, str], np.ndarray]
    moments: Mapping[tuple[str, str, str], np.ndarray]
    pictures: Mapping[str, np.ndarray]
    missed: Mapping[str, np.ndarray]

    def of(self, targets: str) -> "Importance":
        """That of one target group."""
        cells, moments = ({key: of for key, of in part.items() if key[0] == targets} for part in self[:2])
        return self._replace(cells=cells, moments=moments)


def importance(file: Mapping[str, Any]) -> Importance:
    """Return what data/importance.h5 holds (an open h5py.File)."""
    sizes = {
        (group, method, stream): of
        for group, methods in file.get("sizes", {}).items()
        for method, streams in methods.items()
        for stream, of in streams.items()
    }
    cells, moments = ({key: of[what][()] for key, of in sizes.items() if what in of} for what in ("cells", "moments"))
    pictures, missed = ({name: of[()] for name, of in file.get(what, {}).items()} for what in ("pictures", "missed"))
    return Importance(cells, moments, pictures, missed)


class Steps(NamedTuple):
    """Of a clip: values (T, ...), seconds (T,), whether the network reads them, and points (T, P, 2) in pictures' pixels; of
    flow in colours the pixels that a full colour means; it has a picture more than seconds, the colours' wheel."""

    values: np.ndarray
    times: np.ndarray
    read: bool
    points: np.ndarray | None = None
    full: float | None = None


class Sample(NamedTuple):
    """A clip as the network's streams hold it, by name: pictures uint8 (t, H, W, 3), sound (T, D), and the centres (mels,)
    in Hz of the bands of log_mel, where there is any."""

    pictures: Mapping[str, Steps]
    sound: Mapping[str, Steps]
    frequencies: np.ndarray


def samples(file: Mapping[str, Any]) -> dict[str, Sample]:
    """Return what data/samples.h5 holds (an open h5py.File), by clip."""

    def steps(of: Mapping[str, Any]) -> dict[str, Steps]:
        return {
            name: Steps(
                one["values"][()],
                one["times"][()],
                bool(one.attrs["read"]),
                one["points"][()] if "points" in one else None,
                float(one.attrs["full"]) if "full" in one.attrs else None,
            )
            for name, one in of.items()
        }

    return {
        clip: Sample(
            steps(group.get("pictures", {})),
            steps(group.get("sound", {})),
            np.array(group.get("sound/log_mel/frequencies", [])),
        )
        for clip, group in file.items()
    }
