"""What a pretrained network reads: audio samples or images, prepared as its folder says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.core.errors import InputError
from lib.core.hidden_states import Layers, has_class_token, select_states
from lib.core.pretrained import import_package, load_image_processor
from lib.core.pretrained_audio import describe_audio_input
from lib.model import pretrained
from lib.model.encoders.images import AT_ONCE
from lib.streams.base import Steps
from lib.streams.waveform import CHUNK

_EPSILON = 1e-7  # of the variance of audio, as in transformers' feature extractor


class AudioReader:
    """Computes hidden states over time from chunks of audio samples.

    Raises InputError if the chunks have another sample rate than the network.
    """

    def __init__(self, folder: Path, network: Any, layers: Layers, shape: Sequence[int]) -> None:
        self._audio, self._layers, self._chunk = describe_audio_input(folder, network.config), layers, shape[0]
        rate = self._audio.sample_rate
        if shape[0] != round(CHUNK * rate):
            raise InputError(
                f"reads has chunks of {shape[0]} samples, but the network reads {rate} Hz; allowed: chunks"
                f" of {round(CHUNK * rate)} samples; set waveform.sample_rate to {rate}"
            )
        self.example = torch.zeros(1, rate)

    def __call__(self, network: nn.Module, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """Return hidden states (B, S, ...) with times and presence (B, S). Clips of one length are computed together."""
        counts, audio = steps.present.sum(1), self._audio
        states, rows_of_parts = list[Tensor](), list[Tensor]()
        for count in counts.unique().tolist():
            rows = (counts == count).nonzero()[:, 0]
            states.append(self.compute_states(network, steps.values[rows, :count].flatten(1)))
            rows_of_parts.append(rows)
        longest = max(part.shape[1] for part in states)
        padded = [
            torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], 1) for part in states
        ]
        order = torch.cat(rows_of_parts).argsort()
        numbers = torch.arange(longest, device=counts.device)
        present = numbers < self._count(counts)[:, None]
        start = steps.times[:, :1] - CHUNK / 2
        times = start + (numbers * audio.hop + audio.shortest / 2) / audio.sample_rate
        return torch.cat(padded)[order], times.to(steps.times.dtype), present & (counts > 0)[:, None]

    def compute_states(self, network: nn.Module, samples: Tensor) -> Tensor:
        """Return hidden states (B, S, D) or (B, S, L, D) of samples (B, N). Silence follows audio that is too short."""
        if self._audio.normalise and samples.shape[1]:
            deviation = (samples.var(1, correction=0, keepdim=True) + _EPSILON).sqrt()
            samples = (samples - samples.mean(1, keepdim=True)) / deviation
        samples = functional.pad(samples, (0, max(0, self._audio.shortest - samples.shape[1])))
        output = network(samples, output_hidden_states=self._layers != "last")
        return select_states(output, self._layers)

    def _count(self, chunks: Tensor) -> Tensor:
        """Return the number of hidden states of a clip with this number of chunks."""
        samples = (chunks * self._chunk).clamp(min=self._audio.shortest)
        return (samples - self._audio.shortest) // self._audio.hop + 1


class ImageReader:
    """Computes a vector for each image, scaled, cropped and normalised by the folder's image processor."""

    def __init__(self, folder: Path, network: Any, layers: Layers, shape: Sequence[int]) -> None:
        if network.main_input_name != "pixel_values":
            raise InputError(
                f"network = {str(folder)!r} reads {network.main_input_name}; allowed: networks that read images; name"
                " another network"
            )
        self._processor, self._layers = load_image_processor(folder), layers
        self._has_class_token = has_class_token(network)
        self.example = torch.zeros(1, *shape)

    def __call__(self, network: nn.Module, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """Return vectors (B, T, ...) with times and presence (B, T)."""
        images = steps.values[steps.present]
        if torch.is_grad_enabled():
            vectors = self.compute_states(network, images)
        else:  # without gradients, only one part at a time needs memory
            vectors = torch.cat([self.compute_states(network, part) for part in images.split(AT_ONCE)])
        values = vectors.new_zeros(*steps.present.shape, *vectors.shape[1:])
        return values.index_put(steps.present.nonzero(as_tuple=True), vectors), steps.times, steps.present

    def compute_states(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return vectors (N, D) or (N, L, D) of images (N, 3, H, W) in [0, 1]."""
        pixels = self._processor(images=images, do_rescale=False, return_tensors="pt")["pixel_values"]
        output = network(pixels, output_hidden_states=self._layers != "last")
        return pretrained.pool_image(output, self._layers, self._has_class_token)


class TimmReader(ImageReader):
    """Computes a vector for each image, scaled, cropped and normalised as the configuration of timm's network says."""

    def __init__(self, network: Any, shape: Sequence[int]) -> None:
        data = import_package("timm", "timm").data
        self._transform = data.create_transform(**data.resolve_model_data_config(network), is_training=False)
        self.example = torch.zeros(1, *shape)

    def compute_states(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return vectors (N, D) of images (N, 3, H, W) in [0, 1]."""
        return network(self._transform(images))
