"""What a network was given, and what it looked at: clips' pictures and sound; attention weights, where and when its tokens
are, and the pictures that it saw."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pandas as pd
import torch
from scipy import stats
from torchvision.utils import flow_to_image

from lib.core import imports
from lib.data.batch import collate
from lib.data.dataset import Clips, Reading, kind_of, stream_of
from lib.data.loading import to_device
from lib.model.fusions import Attention
from lib.model.network import Network
from lib.streams import base
from lib.streams.base import Steps, StreamInfo

_PICTURES = 4  # of a sample, spread over the clip
_SIDE = 224  # of a sample's pictures, the longer one in pixels
_WINDOWS = 2000  # of a sample's sound at most, from the middle of the clip


@torch.no_grad()
def write_attention(path: Path, network: Network, clips: Clips, chosen: Sequence[int]) -> None:
    """Write a group for each of the clips `chosen`, by name; none where the fusion has no attention.

    attention/QUERY_to_KEY: weights (heads, queries, keys) between two encoders' tokens. tokens/ENCODER/times (t,) in seconds
    and grid (2,), h and w: its t h w tokens. pictures/ENCODER: uint8 (t, H, W, 3), what an encoder of pictures saw, of
    several streams of them the first.
    """
    device = next(network.parameters()).device
    with h5py.File(path, "w", libver="latest") as file:
        for index in chosen:
            batch = to_device(collate([clips[index]]), device)
            output = network(batch.inputs, attend=True)
            if not output.attention:
                return
            group = file.create_group(clips.table["clip"].iat[index])
            for (query, key), weights in output.attention.items():
                _add(group, f"attention/{query}_to_{key}", weights[0].cpu().numpy())
            for name, tokens in output.tokens.items():
                _add(group, f"tokens/{name}/times", tokens.times[0].cpu().numpy())
                _add(group, f"tokens/{name}/grid", np.array(tokens.grid))
                for pictures in pictures_seen(batch.inputs[name]):
                    _add(group, f"pictures/{name}", pictures)


@torch.no_grad()
def write_mean_attention(path: Path, network: Network, clips: Clips, chosen: Sequence[int], seed: int) -> None:
    """Write what encoders' places are looked at in the mean over the clips `chosen`, and how much of it training has made.

    ENCODER/heads (heads, h, w) is how much each head looks at the encoder's places, mean over the other encoders, their
    tokens and the time, in multiples of uniform attention; ENCODER/shuffled is the same of the network with each of its
    weights' numbers in another order, and ENCODER/correlations (clips,) Spearman's between the two networks' looks at the
    encoder's tokens, clip by clip: near 0 where attention is what was learnt (Adebayo et al. 2018, Sanity checks for
    saliency maps). ENCODER/picture, uint8 (H, W, 3), is the mean of what it saw, where that is pictures. There is no ENCODER
    where no attention is, or where it has one token. `clips` is an attribute of the file.
    """
    device = next(network.parameters()).device
    networks = network, shuffled(network, seed)
    maps: dict[str, tuple[list[Any], list[Any], list[float], list[Any]]] = {}
    for index in chosen:
        batch = to_device(collate([clips[index]]), device)
        outputs = [one(batch.inputs, attend=True) for one in networks]
        for name, tokens in outputs[0].tokens.items():
            both = [look for one in outputs if (look := looked_at(one.attention, name)) is not None]  # each (heads, N)
            if not both or both[0].shape[1] < 2:
                continue
            found = maps.setdefault(name, ([], [], [], []))
            for of, into in zip(both, found, strict=False):
                into.append(of.reshape(len(of), -1, *tokens.grid).mean(1))
            found[2].append(stats.spearmanr(both[0].mean(0), both[1].mean(0)).statistic)
            found[3].extend(pictures_seen(batch.inputs[name]))
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["clips"] = len(chosen)
        for name, (heads, of_shuffled, correlations, pictures) in maps.items():
            _add(file, f"{name}/heads", np.mean(heads, 0))
            _add(file, f"{name}/shuffled", np.mean(of_shuffled, 0))
            _add(file, f"{name}/correlations", np.array(correlations))
            if pictures:
                _add(file, f"{name}/picture", np.mean([one.mean(0) for one in pictures], 0).round().astype(np.uint8))


@torch.no_grad()
def shuffled(network: Network, seed: int) -> Network:
    """Return a copy of which each parameter's numbers are in another order."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return other


def looked_at(attention: Attention, key: str) -> np.ndarray | None:
    """Return how much each head looks at an encoder's tokens (heads, N), mean over who looks, in multiples of uniform
    attention; None if nobody does. The attention is of one clip."""
    looks = [weights[0].mean(1) * weights.shape[-1] for (_, other), weights in attention.items() if other == key]
    return torch.stack(looks).mean(0).cpu().numpy() if looks else None


def pictures_seen(read: Mapping[str, Steps]) -> list[np.ndarray]:
    """The pictures (t, H, W, 3), 0 to 255, of the first stream of them that an encoder of one clip reads, if it has all."""
    for reference, steps in read.items():
        if kind_of(reference) == "pictures" and bool(steps.present.all()):
            return [(255 * steps.values[0]).round().byte().permute(0, 2, 3, 1).cpu().numpy()]
    return []


def write_samples(
    path: Path, table: pd.DataFrame, data: Path, readings: Mapping[str, Reading], streams: Mapping[str, StreamInfo]
) -> None:
    """Write a group for each clip of `table`, by name, in its order, with what the network's `streams` hold of it.

    pictures/STREAM: `values` uint8 (t, H, W, 3), a few of the pictures that encoders read; where they read none, of those
    that what they read was made from; of flow, what `coloured` makes of it, with the attribute `full`. sound/ARRAY, where
    there is the stream audio: `values` (T, mels) of log_mel, in dB, with the bands' centres `frequencies` (mels,) in Hz;
    (T, mfcc) of mfcc. Each has `times` in seconds, and the attribute `read`, whether an encoder reads it; pictures in which
    a stream has points have them as `points` (t, P, 2), in pixels.
    """
    read = {stream_of(one) for reading in readings.values() for one in reading.reads}
    pictures = [name for name in streams if base.load(name).kind == "pictures"]
    pictures = [name for name in pictures if stream_of(name) in read] or pictures[-1:]
    points = [name for name in streams if base.load(name).kind == "points"]
    shown = {}
    flows = [name for name in streams if base.load(name).kind == "flow"]
    for name in flows:
        shown[f"pictures/{name}"] = Reading(kind="", reads=[name], take="parts", steps=_PICTURES - 1)
    for name in pictures:
        reads = [name, *(one for one in points if base.load(one).inputs == (name,))]
        reads += [f"{name}.{one}" for one in base.load(name).kinds if streams[name].shapes[one] != [0]]
        shown[f"pictures/{name}"] = Reading(kind="", reads=reads, take="parts", steps=_PICTURES)
    for array in base.load("audio").arrays if "audio" in streams else ():
        shown[f"sound/{array}"] = Reading(kind="", reads=[f"audio.{array}"], take="window", steps=_WINDOWS)
    clips = Clips(table, data, shown, streams, {})
    with h5py.File(path, "w", libver="latest", track_order=True) as file:
        for index, clip in enumerate(table["clip"]):
            group = file.create_group(clip)
            for name, of_one in clips[index].inputs.items():
                (reference, (values, times, _)), *others = of_one.items()
                if not len(times):  # this clip lacks the stream
                    continue
                full = None
                if stream_of(reference)[0] in flows:
                    values, full = coloured(values)
                if name.startswith("pictures/"):
                    scale = min(1.0, _SIDE / max(values.shape[2:]))
                    values = np.stack([_scaled(one, scale) for one in values])
                    for _, upon in others:
                        _add(group, f"{name}/points", (scale * upon.values).astype(np.float32))
                _add(group, f"{name}/values", values)
                _add(group, f"{name}/times", times)
                group[name].attrs["read"] = stream_of(reference) in read
                if full is not None:
                    group[name].attrs["full"] = full
                if name == "sound/log_mel":
                    _add(group, f"{name}/frequencies", _centres(**streams["audio"].settings))


def coloured(flow: np.ndarray, full: float | None = None) -> tuple[np.ndarray, float]:
    """Return flow (T, 2, H, W) in the standard colours (Baker et al. 2011, A database and evaluation methodology for optical
    flow), uint8 (T + 1, 3, H, W), and how many pixels a `full` colour means; None: which 1 % of the motion exceeds. The last
    picture is the wheel that the colours are read by: motion from its middle to each place, full at the rim."""
    full = max(float(np.percentile(np.linalg.norm(flow, axis=1), 99)), 1e-3) if full is None else full
    height, width = flow.shape[2:]
    down, right = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    every = np.concatenate([flow, full * np.stack([right, down])[None]])
    size = np.linalg.norm(every, axis=1, keepdims=True)
    within = torch.from_numpy(every * np.minimum(1, full / np.maximum(size, full))).float()
    pictures = flow_to_image(within).numpy()
    pictures[-1][:, down**2 + right**2 > 1] = 255
    return pictures, full


def _scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    """(3, H, W) to (H, W, 3)."""
    height, width = picture.shape[1:]
    shape = (max(1, round(scale * width)), max(1, round(scale * height)))
    return cv2.resize(np.ascontiguousarray(picture.transpose(1, 2, 0)), shape, interpolation=cv2.INTER_AREA)


def _centres(sample_rate: int, mels: int, filter_rate: int | None = None, **_: Any) -> np.ndarray:
    """The centres in Hz of the bands of a log-mel spectrogram; filters for another rate lie elsewhere than they should."""
    librosa = imports.librosa()  # only where there is sound

    rate = filter_rate or sample_rate
    return librosa.mel_frequencies(mels + 2, fmin=0, fmax=rate / 2)[1:-1] * (sample_rate / rate)


def _add(group: h5py.Group, name: str, array: np.ndarray) -> None:
    compression = "gzip" if array.ndim > 1 else None
    group.create_dataset(name, data=array, compression=compression, track_times=False)
