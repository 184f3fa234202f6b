"""Embed the images of clips by the network that the settings name."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib.core import pretrained
from lib.core.device import best_device, ran_out_of_memory
from lib.core.errors import InputError, prefix_errors
from lib.core.shards import Record
from lib.streams import base, faces, frames, pictures
from lib.streams._extraction import BatchExtractor
from lib.streams.embeddings import networks, pretrained_images
from lib.streams.embeddings.pretrained_images import TIMM, TimmNetwork, TransformersNetwork
from lib.streams.embeddings.settings import Settings

_READ: dict[str, Callable[[Record, np.ndarray], np.ndarray]] = {
    "faces": faces.read_steps,
    "frames": frames.read_steps,
    "pictures": lambda record, indices: pictures.read_steps(record, indices, "faces"),
}
"""By the name of a stream: a function that returns steps of a record as RGB uint8 (K, 3, H, W)."""
_CLIPS = 4  # in a batch on a GPU


class ImageNetwork(Protocol):
    """A frozen network with the preparation of images that it needs."""

    def prepare(self, images: np.ndarray) -> Tensor:
        """Return the network's input (K, 3, h, w) of images, RGB uint8 (K, 3, H, W)."""

    def embed(self, pixels: Tensor) -> Tensor:
        """Return vectors (K, D), or (K, L, D) of several layers."""


class OwnNetwork:
    """A network of this project or of torchvision: images are scaled to `settings.side` and normalised."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        network = networks.build_network(settings.network, settings.weights, settings.stn, settings.se, settings.seed)
        self._network, self._size, self._device = network.to(device).eval(), (settings.side, settings.side), device
        self._mean, self._std = (
            torch.tensor(channels, device=device).view(3, 1, 1)
            for channels in networks.get_normalisation(settings.network)
        )

    def prepare(self, images: np.ndarray) -> Tensor:
        """Return the network's input (K, 3, S, S)."""
        scaled = torch.from_numpy(images).to(self._device).float() / 255
        if scaled.shape[2:] != self._size:
            scaled = functional.interpolate(scaled, self._size, mode="bilinear", antialias=True, align_corners=False)
        return (scaled - self._mean) / self._std

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """Return vectors (K, D)."""
        return self._network(pixels)


class Embedder(BatchExtractor):
    """Embeds the images of clips. key: of the section of params.yaml, for messages.

    On a GPU, images of several clips are a batch. If memory runs out, smaller batches are used from then on. Raises
    InputError if the network or its weights are not available, or if memory does not suffice for a single image.
    """

    def __init__(self, settings: Settings, key: str) -> None:
        self._settings, self._key, self._device = settings, key, best_device()
        with prefix_errors(f"{key}."):
            self._network = _make_network(settings, self._device)
        spans_clips = self._device.type == "cuda" and not isinstance(self._network, OwnNetwork)
        self.clips = _CLIPS if spans_clips else 1
        self._largest: int | None = None

    def extract_clips(self, inputs: list[tuple[Any, ...]]) -> list[Record]:
        """Return records with `values` (T, D), float32, or (T, L, D), float16, and `times` (T,) in seconds."""
        records = [record for (record,) in inputs]
        chosen = [base.choose_evenly(base.present_steps(record), self._settings.steps) for record in records]
        prepared = [
            self._network.prepare(self._read(record, indices)) for record, indices in zip(records, chosen, strict=True)
        ]
        if len({pixels.shape[1:] for pixels in prepared}) == 1:
            together = self._embed(torch.cat(prepared))
            values = np.split(together, np.cumsum([len(indices) for indices in chosen])[:-1])
        else:  # a network that accepts images of any size
            values = [self._embed(pixels) for pixels in prepared]
        return [
            Record(record.clip, {"values": array, "times": base.step_times(record)[indices]})
            for record, indices, array in zip(records, chosen, values, strict=True)
        ]

    def _read(self, record: Record, indices: np.ndarray) -> np.ndarray:
        images = _READ[self._settings.source](record, indices)
        return np.ascontiguousarray(images[:, ::-1] if self._settings.colour == "bgr" else images)

    def _embed(self, pixels: Tensor) -> np.ndarray:
        """Return the vectors of a batch, which is divided if memory runs out."""
        while True:
            size = min(self._largest or len(pixels), len(pixels))
            try:
                values = torch.cat([self._network.embed(part) for part in pixels.split(size)])
                return values.to(torch.float16 if values.dim() == 3 else torch.float32).cpu().numpy()
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
            if size == 1:
                raise InputError(
                    f"{self._key}: memory of {self._device.type} does not suffice for one image; lower parallel.workers, or"
                    f" set {self._key}.network to a smaller network"
                )
            self._largest = size // 2
            logging.getLogger(self._key).warning("memory ran out: batches of %d images are used", self._largest)


def files(settings: Settings, key: str) -> list[Path]:
    """Return the network's files: those that the settings name, or that the network's package ships."""
    with prefix_errors(f"{key}."):
        folder = _find_folder(settings)
        if folder is not None:
            return pretrained.list_files(folder)
        if settings.network.startswith(TIMM):
            return [] if settings.weights is None else [Path(settings.weights)]
        return networks.files(settings.network, settings.weights)


def _find_folder(settings: Settings) -> Path | None:
    """Return the folder of the network; None for networks of this project and torchvision, and for timm's without folder."""
    network, is_path = settings.network, "/" in settings.network or Path(settings.network).is_dir()
    if network.startswith(TIMM):
        if settings.weights != "pretrained":
            return None
        network = pretrained_images.find_timm_hub_name(network)
    elif not is_path:
        return None
    return pretrained.find_folder(network, revision=settings.revision, download=settings.download)


def _make_network(settings: Settings, device: torch.device) -> ImageNetwork:
    folder, is_timm = _find_folder(settings), settings.network.startswith(TIMM)
    if folder is not None and not is_timm and settings.weights is not None:
        raise InputError(f"weights = {settings.weights!r}; allowed with the folder of a network: null; set it to null")
    is_timm = is_timm or (folder is not None and pretrained_images.is_timm_folder(folder))
    if folder is not None and not is_timm:
        return TransformersNetwork(folder, device, layers=settings.layers, allow_code=settings.allow_code)
    if settings.layers != "last":
        raise InputError(
            f"layers = {settings.layers!r}; allowed for network = {settings.network!r}: last; set it to last, or name a"
            " network of transformers"
        )
    if is_timm:
        return TimmNetwork(settings.network, settings.weights, folder, device, settings.seed)
    return OwnNetwork(settings, device)
