"""A pretrained network of `transformers` over audio or images, fine-tuned in part or by low-rank adapters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from lib.core import pretrained as folders
from lib.core.errors import InputError
from lib.core.pretrained import PretrainedSettings
from lib.core.pretrained_audio import describe_audio_input
from lib.data.inputs import EncoderInputs, find_kind
from lib.model import encoders, pretrained
from lib.model.encoders.images import AT_ONCE
from lib.model.tokens import Tokens, of_clip
from lib.streams.base import Steps
from lib.streams.waveform import CHUNK

_EPSILON = 1e-7  # of the variance of audio, as in transformers' feature extractor
_CONSECUTIVE = ("all", "window")
"""Samplers whose steps are consecutive, as audio needs."""


def _check_trainable(value: Any) -> Any:
    if value != "lora" and not (type(value) is int and value >= 0):
        raise ValueError("a number of layers from 0 on, or lora")
    return value


class Settings(EncoderInputs, PretrainedSettings):
    """trainable: number of trained layers, counted from the last, or "lora". rank, alpha: of the adapters of "lora".

    weights: "pretrained", those of the network's folder, or None for random weights. architecture: the contents of the
    folder's descriptions, which training fills in, so that a model's file can be read without the folder.
    """

    kind: Literal["pretrained"]
    weights: Literal["pretrained"] | None
    trainable: Annotated[int | Literal["lora"], BeforeValidator(_check_trainable)]
    rank: Annotated[int, Field(ge=1, le=4096)]
    alpha: Annotated[float, Field(gt=0, le=1e6)]
    checkpointing: bool
    tokens: Literal["clip", "steps"]
    architecture: pretrained.Architecture | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(_is_audio(reference) for reference in self.reads) and self.take not in _CONSECUTIVE:
            raise ValueError(
                f"take = {self.take} with audio; allowed: {', '.join(_CONSECUTIVE)}, whose steps are consecutive"
            )
        return self

    def completed(self, lengths: Callable[[], Sequence[int]]) -> Self:
        """Return the settings with the descriptions of the network's folder."""
        return self.model_copy(update={"architecture": pretrained.read_architecture(self._find_folder())})

    def files(self) -> list[Path]:
        """Return the files of the network's folder."""
        return folders.list_files(self._find_folder())

    @contextmanager
    def open_folder(self) -> Iterator[Path]:
        """Give the network's folder, or for a model's file a temporary folder with the descriptions that it contains."""
        if self.weights is None and self.architecture is not None and not self.allow_code:
            with pretrained.write_architecture(self.architecture) as folder:
                yield folder
        else:
            yield self._find_folder()

    def _find_folder(self) -> Path:
        if self.network.startswith("timm/"):
            raise InputError(
                f"network = {self.network!r}; allowed for pretrained: networks of transformers; name another network"
            )
        return folders.find_folder(self.network, revision=self.revision, download=self.download)


class Encoder(encoders.Encoder):
    """A pretrained network over audio samples or images.

    Layers that are not trained, and all modules outside the layers, stay in evaluation mode. Clips of different lengths are
    computed one after another, so that a clip's tokens do not depend on its batch. Several hidden states are averaged with
    learned weights. Raises InputError if the network, its weights or the streams don't fit.
    """

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        audio = _is_audio(settings.reads[0])
        if len(settings.reads) > 1 or not (audio or find_kind(settings.reads[0]) == "pictures"):
            raise InputError(f"reads = {settings.reads}; allowed for pretrained: waveform, or one stream of images")
        (self._stream,), (shape,) = settings.reads, shapes
        self._settings, self._trained, self._checkpointed = settings, list[nn.Module](), list[nn.Module]()
        with settings.open_folder() as folder:
            load = folders.load_network if settings.weights is not None else folders.build_network
            network: Any = load(folder, allow_code=settings.allow_code)
            # of a network for images and text, the image part
            self.network: Any = network if audio else getattr(network, "vision_model", network)
            read = (_Audio if audio else _Images)(settings, folder, self.network, shape)
        self._read: _Audio | _Images = read
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
        return of_clip((values * weights).sum(1) / weights.sum(1), times, present)

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


class _Audio:
    """Computes hidden states over time from chunks of audio samples.

    Raises InputError if the chunks have another sample rate than the network.
    """

    def __init__(self, settings: Settings, folder: Path, network: Any, shape: Sequence[int]) -> None:
        self._audio, self._layers, self._chunk = describe_audio_input(folder, network.config), settings.layers, shape[0]
        rate = self._audio.sample_rate
        if shape[0] != round(CHUNK * rate):
            raise InputError(
                f"reads = {settings.reads}, chunks of {shape[0]} samples, but the network reads {rate} Hz; allowed: chunks"
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
        return pretrained.select_states(output, self._layers)

    def _count(self, chunks: Tensor) -> Tensor:
        """Return the number of hidden states of so many chunks."""
        samples = (chunks * self._chunk).clamp(min=self._audio.shortest)
        return (samples - self._audio.shortest) // self._audio.hop + 1


class _Images:
    """Computes a vector for each image, scaled, cropped and normalised by the folder's image processor."""

    def __init__(self, settings: Settings, folder: Path, network: Any, shape: Sequence[int]) -> None:
        if network.main_input_name != "pixel_values":
            raise InputError(
                f"network = {settings.network!r} reads {network.main_input_name}; allowed: networks that read images; name"
                " another network"
            )
        self._processor, self._layers = folders.load_image_processor(folder), settings.layers
        self._has_class_token = pretrained.has_class_token(network)
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


def _is_audio(reference: str) -> bool:
    return reference.partition(".")[0] == "waveform"
