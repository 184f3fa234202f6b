"""A pretrained network of `transformers` or `timm` over audio or images, fine-tuned in part or by low-rank adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.core import pretrained as folders
from lib.core.errors import InputError
from lib.data.inputs import find_kind
from lib.model import encoders, pretrained
from lib.model.pretrained_readers import AudioReader, ImageReader, TimmReader
from lib.model.settings.pretrained import Settings as Settings
from lib.model.settings.pretrained import is_audio
from lib.model.tokens import Tokens, make_clip_token
from lib.streams.base import Steps
from lib.streams.embeddings.pretrained_images import is_timm_folder, load_timm_network


class Encoder(encoders.Encoder):
    """A pretrained network over audio samples or images.

    Layers that are not trained, and all modules outside the layers, stay in evaluation mode. Clips of different lengths are
    computed one after another, so that a clip's tokens do not depend on its batch. Several hidden states are averaged with
    learned weights. Raises InputError if the network, its weights or the streams don't fit.
    """

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        audio = is_audio(settings.reads[0])
        if len(settings.reads) > 1 or not (audio or find_kind(settings.reads[0]) == "pictures"):
            raise InputError(f"reads = {settings.reads}; allowed for pretrained: waveform, or one stream of images")
        (self._stream,), (shape,) = settings.reads, shapes
        self._settings, self._trained, self._checkpointed = settings, list[nn.Module](), list[nn.Module]()
        with settings.open_folder() as folder:
            self.network, self._read = _load(settings, folder, shape)
        self.network.requires_grad_(False)
        self._choose_trained()
        states = self._compute_example()  # (1, ..., D) or (1, ..., L, D)
        several = settings.layers not in ("last", "mean")
        self.layer_weights = nn.Parameter(torch.zeros(states.shape[-2])) if several else None
        self.output_dim = states.shape[-1]

    def train(self, mode: bool = True) -> "Encoder":
        """Set only the trained layers to training mode."""
        super().train(mode)
        self.network.eval()
        for layer in self._trained:
            layer.train(mode)
        for layer in self._checkpointed:
            layer.training = mode  # checkpoints its activations; dropout inside stays in evaluation mode
        return self

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """From samples (B, T, N) or images (B, T, 3, H, W) in [0, 1] to a token for each hidden state or image, or one."""
        values, times, present = self._read(self.network, inputs[self._stream])
        if self.layer_weights is not None:
            values = (values * self.layer_weights.softmax(0)[:, None]).sum(-2)
        weights = present[..., None].to(values.dtype)
        if self._settings.tokens == "steps":
            return Tokens(values * weights, times, present, (1, 1))
        return make_clip_token((values * weights).sum(1) / weights.sum(1), times, present)

    def list_layer_weights(self) -> dict[str, Tensor]:
        return {} if self.layer_weights is None else {self._stream: self.layer_weights.softmax(0)}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Remove the pooling layer if the model's file has none, because the folder had no weights for it."""
        has_pooler = any(name.startswith(f"{prefix}network.pooler.") for name in state_dict)
        if not has_pooler and hasattr(self.network, "pooler"):
            self.network.pooler = None
        super()._load_from_state_dict(state_dict, prefix, *others)

    @torch.no_grad()
    def _compute_example(self) -> Tensor:
        """Return the network's output for silence or a black image. Raises InputError if the network can't compute it."""
        return folders.explain_errors(
            lambda: self._read.compute_states(self.network, self._read.example),
            f"network = {self._settings.network!r} can't compute its output",
            "allowed: networks that fit their processor; check config.json and preprocessor_config.json",
        )

    def _choose_trained(self) -> None:
        """Let the last layers, or adapters, be trained, and checkpoint their activations."""
        settings, network = self._settings, self.network
        if settings.trainable == 0:
            return
        layers = pretrained.find_layers(network)
        if settings.trainable == "lora":
            pretrained.add_adapters(network, layers, settings.rank, settings.alpha, self._compute_example)
        elif settings.trainable <= len(layers):
            self._trained = list(layers[-settings.trainable :])
            for layer in self._trained:
                layer.requires_grad_(True)
        else:
            raise InputError(
                f"trainable = {settings.trainable}, but the network has {len(layers)} layers; allowed: 0 to {len(layers)},"
                " or lora"
            )
        if settings.checkpointing:
            pretrained.set_checkpointing(network)
            self._checkpointed = self._trained or list(layers)


def _load(settings: Settings, folder: Path | None, shape: Sequence[int]) -> tuple[Any, AudioReader | ImageReader]:
    """Return the network, and its preparation of audio samples or images with steps of this shape."""
    if folder is None or is_timm_folder(folder):
        if is_audio(settings.reads[0]) or settings.layers != "last":
            raise InputError(
                f"network = {settings.network!r}, reads = {settings.reads}, layers = {settings.layers}; allowed for timm:"
                " images and last; name a network of transformers, or change reads and layers"
            )
        timm_network = load_timm_network(settings.network, settings.weights, folder)
        return timm_network, TimmReader(timm_network, shape)
    load = folders.load_network if settings.weights is not None else folders.build_network
    network: Any = load(folder, allow_code=settings.allow_code)
    if is_audio(settings.reads[0]):
        return network, AudioReader(folder, network, settings.layers, shape)
    network = getattr(network, "vision_model", network)  # of a network for images and text
    return network, ImageReader(folder, network, settings.layers, shape)
