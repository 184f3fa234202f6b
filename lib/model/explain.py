"""What a network looked at: attention weights, where and when its tokens are, and the pictures that it saw."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from lib.data.batch import collate
from lib.data.dataset import Clips, stream_of
from lib.data.loading import to_device
from lib.model.network import Network
from lib.streams import base


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
                for reference, steps in batch.inputs[name].items():
                    if base.load(stream_of(reference)[0]).kind == "pictures" and bool(steps.present.all()):
                        pictures = (255 * steps.values[0]).round().byte().permute(0, 2, 3, 1)
                        _add(group, f"pictures/{name}", pictures.cpu().numpy())
                        break


def _add(group: h5py.Group, name: str, array: np.ndarray) -> None:
    compression = "gzip" if array.ndim > 3 else None
    group.create_dataset(name, data=array, compression=compression, track_times=False)
