"""Read attention weights, importance and samples from HDF5 files, for figures."""

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np


class ClipAttention(NamedTuple):
    """The attention weights of a clip.

    looks: weights (heads, queries, keys) by pair of encoders (query, key). times, grids: by encoder, the times (t,) of
    its tokens and their grid (h, w) at each time. pictures: by encoder, its input images, uint8 (t, H, W, 3), if it
    reads images.
    """

    looks: Mapping[tuple[str, str], np.ndarray]
    times: Mapping[str, np.ndarray]
    grids: Mapping[str, tuple[int, int]]
    pictures: Mapping[str, np.ndarray]


def read_attention(file: Mapping[str, Any]) -> dict[str, ClipAttention]:
    """Return the contents of data/attention.h5 (an open h5py.File) by clip, for clips with attention weights."""
    attention = {}
    for clip, group in file.items():
        tokens, weights = group["tokens"], group["attention"]
        looks = {
            (query, key): weights[f"{query}_to_{key}"][()]
            for query, key in product(tokens, tokens)
            if f"{query}_to_{key}" in weights
        }
        if looks:
            attention[clip] = ClipAttention(
                looks,
                {name: dataset["times"][()] for name, dataset in tokens.items()},
                {name: (int(dataset["grid"][0]), int(dataset["grid"][1])) for name, dataset in tokens.items()},
                {name: dataset[()] for name, dataset in group["pictures"].items()} if "pictures" in group else {},
            )
    return attention


class EncoderAttention(NamedTuple):
    """The mean attention to an encoder's cells over clips, in multiples of uniform attention.

    heads: for each head (heads, h, w). shuffled: the same for shuffled weights. correlations: rank correlation of the two
    for each clip (clips,). picture: mean image, uint8 (H, W, 3).
    """

    heads: np.ndarray
    shuffled: np.ndarray
    correlations: np.ndarray
    picture: np.ndarray | None


class MeanAttention(NamedTuple):
    """The number of clips, and the mean attention to each encoder."""

    clips: int
    encoders: Mapping[str, EncoderAttention]


def read_mean_attention(file: Any) -> MeanAttention:
    """Return the contents of data/mean_attention.h5 (an open h5py.File)."""
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


class ImportanceMaps(NamedTuple):
    """The importance of regions and times for predictions, in units of the targets' range.

    cells, times: by target group, method and stream, the importance of each cell of the face (g, g, K) and of each part of
    the time (m, K). pictures: mean image by stream, uint8 (H, W, 3). missed: by target group, the convergence error of the
    integrated gradients (clips, K).
    """

    cells: Mapping[tuple[str, str, str], np.ndarray]
    times: Mapping[tuple[str, str, str], np.ndarray]
    pictures: Mapping[str, np.ndarray]
    missed: Mapping[str, np.ndarray]

    def select_targets(self, targets: str) -> "ImportanceMaps":
        """Return the importance for one target group."""
        cells, times = ({key: values for key, values in part.items() if key[0] == targets} for part in self[:2])
        return self._replace(cells=cells, times=times)

    def first(self, count: int) -> "ImportanceMaps":
        """Return the importance for the first `count` targets of each group."""
        cells, times = ({key: values[..., :count] for key, values in part.items()} for part in self[:2])
        missed = {name: values[..., :count] for name, values in self.missed.items()}
        return self._replace(cells=cells, times=times, missed=missed)


def read_importance(file: Mapping[str, Any]) -> ImportanceMaps:
    """Return the contents of data/importance.h5 (an open h5py.File)."""
    sizes = {
        (group, method, stream): values
        for group, methods in file.get("sizes", {}).items()
        for method, streams in methods.items()
        for stream, values in streams.items()
    }
    cells, times = (
        {key: values[what][()] for key, values in sizes.items() if what in values} for what in ("cells", "moments")
    )
    pictures, missed = (
        {name: values[()] for name, values in file.get(what, {}).items()} for what in ("pictures", "missed")
    )
    return ImportanceMaps(cells, times, pictures, missed)


class SampleArray(NamedTuple):
    """An array of a clip.

    values: (T, ...). times: (T,) in seconds. read: whether the network reads the array. points: (T, P, 2) in pixels of the
    images. full: for coloured flow, the displacement of a saturated colour in pixels; the last image is the colour wheel, so
    that values have one image more than times.
    """

    values: np.ndarray
    times: np.ndarray
    read: bool
    points: np.ndarray | None = None
    full: float | None = None


class Sample(NamedTuple):
    """The arrays of a clip by name.

    pictures: uint8 (t, H, W, 3). sound: audio arrays (T, D). frequencies: centres of the bands of log_mel in Hz (mels,),
    empty without audio.
    """

    pictures: Mapping[str, SampleArray]
    sound: Mapping[str, SampleArray]
    frequencies: np.ndarray


def read_samples(file: Mapping[str, Any]) -> dict[str, Sample]:
    """Return the contents of data/samples.h5 (an open h5py.File) by clip."""

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
