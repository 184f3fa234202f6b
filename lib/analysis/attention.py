"""Attention weights of clips, and mean attention maps, compared with those of randomised weights."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from lib.analysis._context import Context, create_file, write_array
from lib.core.artifacts import ATTENTION, MEAN_ATTENTION
from lib.core.records import choose_evenly
from lib.data.batch import collate
from lib.data.dataset import ClipDataset
from lib.data.images import input_images
from lib.data.loading import to_device
from lib.model.fusions import AttentionWeights
from lib.model.network import Network

OUTPUTS = ATTENTION, MEAN_ATTENTION


def run(context: Context) -> None:
    clips, order = context.clips, context.clips_by_error
    chosen = order[choose_evenly(np.arange(len(order)), context.settings.attention_clips)]
    write_attention(ATTENTION, context.network, clips, pd.Index(clips.table["clip"]).get_indexer(chosen))
    sample = context.sample(context.settings.control_clips)
    write_mean_attention(MEAN_ATTENTION, context.network, clips, sample, context.seed)


@torch.no_grad()
def write_attention(path: Path, network: Network, clips: ClipDataset, chosen: Sequence[int]) -> None:
    """Write a group for each of the clips `chosen`, by name and in their order; no group if the fusion has no attention.

    attention/QUERY_to_KEY: weights (heads, queries, keys) between two encoders' tokens. tokens/ENCODER: an encoder has
    t h w tokens, with times (t,) in seconds and grid (2,), h and w. pictures/ENCODER: uint8 (t, H, W, 3), the encoder's
    images, those of its first stream of images.
    """
    device = next(network.parameters()).device
    with create_file(path) as file:
        for index in chosen:
            batch = to_device(collate([clips[index]]), device)
            output = network(batch.inputs, attend=True)
            if not output.attention:
                return
            group = file.create_group(clips.table["clip"].iat[index], track_order=True)
            for (query, key), weights in output.attention.items():
                write_array(group, f"attention/{query}_to_{key}", weights[0].cpu().numpy())
            for name, tokens in output.tokens.items():
                write_array(group, f"tokens/{name}/times", tokens.times[0].cpu().numpy())
                write_array(group, f"tokens/{name}/grid", np.array(tokens.grid))
                for images in input_images(batch.inputs[name]):
                    write_array(group, f"pictures/{name}", images)


class _Maps(NamedTuple):
    """Attention maps of one encoder, an entry for each clip.

    trained, randomised: maps (heads, h, w) of the network and of its randomised copy. correlations: their rank correlations.
    images: the encoder's images.
    """

    trained: list[np.ndarray]
    randomised: list[np.ndarray]
    correlations: list[float]
    images: list[np.ndarray]


@torch.no_grad()
def write_mean_attention(path: Path, network: Network, clips: ClipDataset, chosen: Sequence[int], seed: int) -> None:
    """Write the mean attention to each encoder's cells over the clips `chosen`, and a comparison with randomised weights.

    ENCODER/heads (heads, h, w): attention of each head to the encoder's cells, mean over the other encoders, their tokens
    and time, in multiples of uniform attention. ENCODER/shuffled: the same for a copy of the network whose weights are
    randomly permuted within each parameter. ENCODER/correlations (clips,): Spearman's correlation between the two networks'
    attention to the encoder's tokens, for each clip; near 0 if the attention was learnt (Adebayo et al. 2018, Sanity checks
    for saliency maps). ENCODER/picture, uint8 (H, W, 3): the mean of the encoder's images, if it reads images. An encoder
    without attention or with a single token is left out. The file's attribute `clips` is the number of clips.
    """
    from scipy.stats import spearmanr  # it takes half a second to load

    device = next(network.parameters()).device
    networks = network, shuffle_weights(network, seed)
    maps: dict[str, _Maps] = {}
    for index in chosen:
        batch = to_device(collate([clips[index]]), device)
        trained, randomised = (model(batch.inputs, attend=True) for model in networks)
        for name, tokens in trained.tokens.items():
            trained_map, randomised_map = (attention_to(output.attention, name) for output in (trained, randomised))
            if trained_map is None or randomised_map is None or trained_map.shape[1] < 2:
                continue
            encoder_maps = maps.setdefault(name, _Maps([], [], [], []))
            encoder_maps.trained.append(trained_map.reshape(len(trained_map), -1, *tokens.grid).mean(1))
            encoder_maps.randomised.append(randomised_map.reshape(len(randomised_map), -1, *tokens.grid).mean(1))
            encoder_maps.correlations.append(spearmanr(trained_map.mean(0), randomised_map.mean(0)).statistic)
            encoder_maps.images.extend(input_images(batch.inputs[name]))
    with create_file(path) as file:
        file.attrs["clips"] = len(chosen)
        for name, encoder_maps in maps.items():
            write_array(file, f"{name}/heads", np.mean(encoder_maps.trained, 0))
            write_array(file, f"{name}/shuffled", np.mean(encoder_maps.randomised, 0))
            write_array(file, f"{name}/correlations", np.array(encoder_maps.correlations))
            if encoder_maps.images:
                mean = np.mean([images.mean(0) for images in encoder_maps.images], 0)
                write_array(file, f"{name}/picture", mean.round().astype(np.uint8))


@torch.no_grad()
def shuffle_weights(network: Network, seed: int) -> Network:
    """Return a copy of the network in which the numbers of each parameter are randomly permuted."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return other


def attention_to(attention: AttentionWeights, key: str) -> np.ndarray | None:
    """Return each head's attention to an encoder's tokens in one clip (heads, N); None if no encoder attends to it.

    It is the mean over all queries, in multiples of uniform attention.
    """
    encoder_weights = [
        weights[0].mean(1) * weights.shape[-1] for (_, other), weights in attention.items() if other == key
    ]
    return torch.stack(encoder_weights).mean(0).cpu().numpy() if encoder_weights else None
