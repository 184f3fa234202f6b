"""MTCNN's three networks (Zhang et al. 2016, Joint face detection and alignment using multi-task cascaded convolutional
networks), with the weights that facenet-pytorch ships."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

_AT_ONCE = 4 * 48 * 48  # pixels that a CPU takes at once: of more the layers' results are too large for malloc to keep


class Network:
    """One of the networks, from its layers and the file of its weights.

    The file is read without facenet-pytorch's package, which takes seconds to import, and 130 MiB, most of it torchvision's.
    """

    def __init__(self, layers: list[nn.Module], file: str, device: torch.device) -> None:
        self._device, self._layers = device, nn.Sequential(*layers).requires_grad_(False)
        package = find_spec("facenet_pytorch")
        if package is None or package.origin is None:
            raise ModuleNotFoundError("facenet_pytorch")
        weights = torch.load(Path(package.origin).parent / "data" / file, weights_only=True)
        own, theirs = list(self._layers.parameters()), list(weights.values())  # in one order
        heads = theirs[len(own) - 2 :]  # are one layer here
        for mine, values in zip(
            own, [*theirs[: len(own) - 2], torch.cat(heads[::2]), torch.cat(heads[1::2])], strict=True
        ):
            mine.copy_(values)
        self._layers.to(device)
        if device.type == "cpu":  # the same numbers up to rounding, pooled in a third of the time
            self._layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (n, ...) and the rest (n, C, ...): by how much of its side each of a box' edges is shifted, from the
        last network also the five points' x, then their y. pictures (n, H, W, 3) have levels 0 to 255."""
        some = max(1, _AT_ONCE // pictures[0, :, :, 0].size) if self._device.type == "cpu" else len(pictures)
        made = torch.cat([self._made(part).cpu() for part in torch.from_numpy(pictures).split(some)])
        return made[:, :2].softmax(1)[:, 1].numpy(), made[:, 2:].numpy()

    def _made(self, pictures: Tensor) -> Tensor:
        return self._layers((pictures.to(self._device).permute(0, 3, 1, 2).float() - 127.5) / 128)


def first_network(device: torch.device) -> Network:
    """Return the network that looks at windows of 12 x 12 pixels in a picture, two pixels apart."""
    layers = [*_layer(3, 10, 3), _pool(2), *_layer(10, 16, 3), *_layer(16, 32, 3), nn.Conv2d(32, 6, 1)]
    return Network(layers, "pnet.pt", device)


def second_network(device: torch.device) -> Network:
    """Return the network that looks at pictures of 24 x 24 pixels."""
    layers = [*_layer(3, 28, 3), _pool(3), *_layer(28, 48, 3), _pool(3), *_layer(48, 64, 2)]
    return Network([*layers, _Flat(), nn.Linear(576, 128), nn.PReLU(128), nn.Linear(128, 6)], "rnet.pt", device)


def last_network(device: torch.device) -> Network:
    """Return the network that looks at pictures of 48 x 48 pixels."""
    layers = [
        *_layer(3, 32, 3),
        _pool(3),
        *_layer(32, 64, 3),
        _pool(3),
        *_layer(64, 64, 3),
        _pool(2),
        *_layer(64, 128, 2),
    ]
    return Network([*layers, _Flat(), nn.Linear(1152, 256), nn.PReLU(256), nn.Linear(256, 16)], "onet.pt", device)


class _Flat(nn.Module):
    """Makes vectors of pictures, column by column."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.permute(0, 3, 2, 1).flatten(1)


def _layer(channels: int, out: int, side: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, side), nn.PReLU(out)]


def _pool(side: int) -> nn.Module:
    return nn.MaxPool2d(side, 2, ceil_mode=True)
