"""MTCNN's three networks (Zhang et al. 2016, Joint face detection and alignment using multi-task cascaded convolutional
networks), with the weights that facenet-pytorch ships."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.core.imports import package_file

# MTCNN's batch size differs from frame to frame; by default oneDNN caches code for 1024 sizes, which takes gigabytes
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")

_AT_ONCE = 4 * 48 * 48  # pixels per batch on a CPU; malloc returns larger layer outputs to the system each time


FIRST, SECOND, LAST = "pnet.pt", "rnet.pt", "onet.pt"
"""Weights files of the three networks."""


class Network:
    """One of the three networks. Its layers are named as in its weights file.

    The file's last layers, listed in `heads`, are combined to one layer called "heads".
    """

    def __init__(self, file: str, layers: dict[str, nn.Module], heads: Sequence[str], device: torch.device) -> None:
        self._device, self._layers = device, nn.Sequential(OrderedDict(layers)).requires_grad_(False)
        self.layers = Layers(self._layers)
        weights = torch.load(weights_file(file), weights_only=True)
        for part in ("weight", "bias"):
            weights[f"heads.{part}"] = torch.cat([weights.pop(f"{head}.{part}") for head in heads])
        self._layers.load_state_dict(weights)
        self._layers.to(device)
        if device.type == "cpu":  # equal results up to rounding, and three times faster pooling
            self._layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (n, ...) and shifts (n, C, ...) of images (n, H, W, 3) with levels from 0 to 255.

        The first four shifts move a box' edges, in units of its side. The last network also returns the x of the five
        points, then their y.
        """
        some = max(1, _AT_ONCE // pictures[0, :, :, 0].size) if self._device.type == "cpu" else len(pictures)
        outputs = [self.layers(part.to(self._device)) for part in torch.from_numpy(pictures).split(some)]
        scores, shifts = (torch.cat(parts).cpu().numpy() for parts in zip(*outputs, strict=True))
        return scores, shifts


class Layers(nn.Module):
    """The layers of a network, with the scaling of its input and the softmax of its scores."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (n, ...) and shifts (n, C, ...) of images (n, H, W, 3) with levels from 0 to 255."""
        outputs = self.layers((pictures.permute(0, 3, 1, 2).float() - 127.5) / 128)
        return outputs[:, :2].softmax(1)[:, 1], outputs[:, 2:]


def weights_file(name: str) -> Path:
    """Return the path of a network's weights (FIRST, SECOND or LAST) in facenet-pytorch.

    The package is not imported, because this takes seconds and 130 MiB, mostly for torchvision.
    """
    path = package_file("facenet_pytorch", "data", name)
    if path is None:
        raise ModuleNotFoundError("facenet_pytorch")
    return path


def load_networks(device: torch.device) -> tuple[Network, Network, Network]:
    """Return the three networks of `lib.streams.faces.detect.Detector`."""
    return first_network(device), second_network(device), last_network(device)


def first_network(device: torch.device) -> Network:
    """Return the first network, which scores windows of 12 x 12 pixels, two pixels apart."""
    layers = _layer(1, 3, 10, 3) | _pool(1, 2) | _layer(2, 10, 16, 3) | _layer(3, 16, 32, 3)
    return Network(FIRST, layers | {"heads": nn.Conv2d(32, 6, 1)}, ("conv4_1", "conv4_2"), device)


def second_network(device: torch.device) -> Network:
    """Return the second network, for images of 24 x 24 pixels."""
    layers = _layer(1, 3, 28, 3) | _pool(1, 3) | _layer(2, 28, 48, 3) | _pool(2, 3) | _layer(3, 48, 64, 2)
    layers |= {"flat": _Flat(), "dense4": nn.Linear(576, 128), "prelu4": nn.PReLU(128), "heads": nn.Linear(128, 6)}
    return Network(SECOND, layers, ("dense5_1", "dense5_2"), device)


def last_network(device: torch.device) -> Network:
    """Return the last network, for images of 48 x 48 pixels."""
    layers = _layer(1, 3, 32, 3) | _pool(1, 3) | _layer(2, 32, 64, 3) | _pool(2, 3) | _layer(3, 64, 64, 3) | _pool(3, 2)
    layers |= _layer(4, 64, 128, 2) | {"flat": _Flat(), "dense5": nn.Linear(1152, 256), "prelu5": nn.PReLU(256)}
    return Network(LAST, layers | {"heads": nn.Linear(256, 16)}, ("dense6_1", "dense6_2", "dense6_3"), device)


class _Flat(nn.Module):
    """Flattens images to vectors, column by column."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.permute(0, 3, 2, 1).flatten(1)


def _layer(number: int, channels: int, out: int, side: int) -> dict[str, nn.Module]:
    return {f"conv{number}": nn.Conv2d(channels, out, side), f"prelu{number}": nn.PReLU(out)}


def _pool(number: int, side: int) -> dict[str, nn.Module]:
    return {f"pool{number}": nn.MaxPool2d(side, 2, ceil_mode=True)}
