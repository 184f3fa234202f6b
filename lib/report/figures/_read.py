"""Read attention weights, importance and samples from HDF5, as figures use them."""

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


def read_attention(file: Mapping[str, Any]) -> dict[str, Attention]:
    """Return what data/attention.h5 holds (an open h5py.File), by clip; only clips with weights."""
    attention = {}
    for clip, group in file.items():
        tokens, weights = group["tokens"], group["attention"]
        looks = {
            (query, key): weights[f"{query}_to_{key}"][()]
            for query, key in product(tokens, tokens)
            if f"{query}_to_{key}" in weights
        }
        if looks:
            attention[clip] = Attention(
                looks,
                {name: dataset["times"][()] for name, dataset in tokens.items()},
                {name: (int(dataset["grid"][0]), int(dataset["grid"][1])) for name, dataset in tokens.items()},
                {name: dataset[()] for name, dataset in group["pictures"].items()} if "pictures" in group else {},
            )
    return attention


class EncoderAttention(NamedTuple):
    """How an encoder's places are looked at, mean over clips, in multiples of uniform: by each head (heads, h, w); the same
    with shuffled weights; the rank correlations (clips,) of the two; and the mean picture, uint8 (H, W, 3)."""

    heads: np.ndarray
    shuffled: np.ndarray
    correlations: np.ndarray
    picture: np.ndarray | None


class MeanAttention(NamedTuple):
    """Over how many clips, and of each encoder what is looked at."""

    clips: int
    encoders: Mapping[str, EncoderAttention]


def read_mean_attention(file: Any) -> MeanAttention:
    """Return what data/mean_attention.h5 holds (an open h5py.File)."""
    encoders = {
        name: EncoderAttention(
            group["heads"][()],
            group["shuffled"][()],
            group["correlations"][()],
            group["picture"][()] if "picture" in group else None,
        )
        for name, group in file.items()
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

    def first(self, count: int) -> "Importance":
        """Return the importance for the first `count` targets of each group."""
        cells, moments = ({key: values[..., :count] for key, values in part.items()} for part in self[:2])
        missed = {name: values[..., :count] for name, values in self.missed.items()}
        return self._replace(cells=cells, moments=moments, missed=missed)


def read_importance(file: Mapping[str, Any]) -> Importance:
    """Return what data/importance.h5 holds (an open h5py.File)."""
    sizes = {
        (group, method, stream): values
        for group, methods in file.get("sizes", {}).items()
        for method, streams in methods.items()
        for stream, values in streams.items()
    }
    cells, moments = (
        {key: values[what][()] for key, values in sizes.items() if what in values} for what in ("cells", "moments")
    )
    pictures, missed = (
        {name: values[()] for name, values in file.get(what, {}).items()} for what in ("pictures", "missed")
    )
    return Importance(cells, moments, pictures, missed)


class SampleArray(NamedTuple):
    """Of a clip: values (T, ...), seconds (T,), whether the network reads them, and points (T, P, 2) in pictures' pixels; of
    flow in colours the pixels that a full colour means; it has a picture more than seconds, the colours' wheel."""

    values: np.ndarray
    times: np.ndarray
    read: bool
    points: np.ndarray | None = None
    full: float | None = None


class Sample(NamedTuple):
    """A clip as the network's streams hold it, by name: pictures uint8 (t, H, W, 3), sound (T, D), and the centres (mels,)
    in Hz of the bands of log_mel, empty without audio."""

    pictures: Mapping[str, SampleArray]
    sound: Mapping[str, SampleArray]
    frequencies: np.ndarray


def read_samples(file: Mapping[str, Any]) -> dict[str, Sample]:
    """Return what data/samples.h5 holds (an open h5py.File), by clip."""

    def steps(group_of_arrays: Mapping[str, Any]) -> dict[str, SampleArray]:
        return {
            name: SampleArray(
                array["values"][()],
                array["times"][()],
                bool(array.attrs["read"]),
                array["points"][()] if "points" in array else None,
                float(array.attrs["full"]) if "full" in array.attrs else None,
            )
            for name, array in group_of_arrays.items()
        }

    return {
        clip: Sample(
            steps(group.get("pictures", {})),
            steps(group.get("sound", {})),
            np.array(group.get("sound/log_mel/frequencies", [])),
        )
        for clip, group in file.items()
    }
