"""A 3D CNN over optical flow or images of any length, feature maps over time and space kept as tokens."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.weights import load_weights
from lib.model import encoders
from lib.model.settings.volumes import Settings as Settings
from lib.model.tokens import Tokens, make_map_tokens
from lib.streams.base import Steps

FLOW_UNIT = 2.0  # pixels; brings typical flow near unit variance

KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
"""Mean and standard deviation of the channels of Kinetics-400, RGB in [0, 1], as torchvision's weights expect them."""

FLOW_CHANNELS, IMAGE_CHANNELS = 2, 3


class Conv3d(nn.Sequential):
    """A small 3D CNN for small corpora: four convolutions; time is halved twice, space four times."""

    output_dim = 128

    def __init__(self, input_channels: int) -> None:
        layers: list[nn.Module] = []
        channels = (input_channels, 16, 32, 64, self.output_dim)
        for index, stride in enumerate([(1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)]):
            layers += [
                nn.Conv3d(channels[index], channels[index + 1], 3, stride, padding=1, bias=False),
                nn.BatchNorm3d(channels[index + 1]),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


def _video_resnet(name: str, weights: str | None, channels: int) -> nn.Module:
    """Return a video ResNet of torchvision (Tran et al. 2018) without pooling and classifier.

    Images keep its stem. For flow, each of the stem's two channels takes the mean of the pretrained three, as in Wang et
    al. 2016 (Temporal segment networks, cross-modality pre-training).
    """
    network = torchvision.models.get_model(name, weights=None)
    load_weights(network, name, weights, "kinetics")
    if channels == FLOW_CHANNELS:
        first = network.stem[0]
        network.stem[0] = nn.Conv3d(2, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False)
        if weights is not None:
            with torch.no_grad():
                network.stem[0].weight.copy_(first.weight.mean(1, keepdim=True).expand(-1, 2, -1, -1, -1))
    backbone = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
    backbone.output_dim = network.fc.in_features
    return backbone


VIDEO_RESNETS = ("r3d_18", "mc3_18", "r2plus1d_18")


class Encoder(encoders.Encoder):
    """A 3D CNN whose result for a clip does not depend on how far the batch pads it.

    Before each convolution over time, what lies beyond a clip's end is set to zero, as the convolution's own padding is.
    It reads flow in pixels, or images in [0, 1], which it standardises as torchvision does for Kinetics.
    backbone: conv3d, r3d_18, mc3_18 or r2plus1d_18. The first `frozen` of the five parts of the last three (stem, four
    stages) are not trained, batch-norm statistics included. weights: None, "kinetics" (Kinetics-400,
    torchvision's), or the path of a state dict of the same network with a three-channel stem.
    Raises InputError if they can't be had or don't fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._stream = encoders.require_image_stream(settings, shapes, FLOW_CHANNELS, IMAGE_CHANNELS)
        backbone, weights, channels = settings.backbone, settings.weights, shapes[0][0]
        if backbone == "conv3d" and weights is not None:
            raise InputError(f"weights = {weights!r} with backbone = conv3d; allowed: null")
        if backbone == "conv3d" and settings.frozen:
            raise InputError(
                f"frozen = {settings.frozen} with backbone = conv3d; allowed: 0; set 0, or backbone to one of"
                f" {', '.join(VIDEO_RESNETS)}"
            )
        if backbone != "conv3d" and backbone not in VIDEO_RESNETS:
            raise InputError(f"backbone = {backbone!r}; allowed: conv3d, {', '.join(VIDEO_RESNETS)}")
        self.network = Conv3d(channels) if backbone == "conv3d" else _video_resnet(backbone, weights, channels)
        self.output_dim = cast(int, self.network.output_dim)
        self._frozen_parts = list(self.network.children())[: settings.frozen]
        for part in self._frozen_parts:
            part.requires_grad_(False)
        is_flow = channels == FLOW_CHANNELS
        mean, std = ((0.0,), (FLOW_UNIT,)) if is_flow else (KINETICS_MEAN, KINETICS_STD)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1, 1), persistent=False)
        self._lengths: Tensor | None = None
        self._mask_padding(channels)

    def train(self, mode: bool = True) -> "Encoder":
        """Frozen parts keep their batch-norm statistics: they stay in evaluation mode."""
        super().train(mode)
        for part in self._frozen_parts:
            part.eval()
        return self

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """From flow (B, T, 2, H, W) in pixels, or images (B, T, 3, H, W) in [0, 1], to t h w tokens (B, t h w, D)."""
        steps = inputs[self._stream]
        lengths = steps.present.sum(1)
        is_padded = not torch.compiler.is_exporting() and int(lengths.min()) < steps.values.shape[1]
        self._lengths = lengths if is_padded else None
        features = (steps.values.transpose(1, 2) - self.mean) / self.std
        for layer in self._list_layers():  # nested modules would keep the inputs of several layers in memory
            features = layer(features)  # (B, D, t, h, w)
        times = steps.times[:, :: self.time_stride]
        present = torch.arange(features.shape[2], device=times.device) < -(-lengths // self.time_stride)[:, None]
        return make_map_tokens(features, times, present)

    def _list_layers(self) -> Iterator[nn.Module]:
        """Yield the layers and residual blocks of the network in their order."""
        for part in self.network.children():
            yield from part.children() if isinstance(part, nn.Sequential) else [part]

    def _mask_padding(self, channels: int) -> None:
        """Set what lies beyond a clip's end to zero before each convolution over time."""
        over_time = [m for m in self.network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1]
        with torch.no_grad():  # how much each convolution's input is shortened, learnt from one pass
            probes = [m.register_forward_pre_hook(_note_stride) for m in over_time]
            self.time_stride = _PROBE // self.network.eval()(torch.zeros(1, channels, _PROBE, 32, 32)).shape[2]
            for probe in probes:
                probe.remove()
        self.train()
        for module in over_time:
            module.register_forward_pre_hook(self._mask)

    def _mask(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if self._lengths is None:
            return None
        (features,) = inputs
        valid = -(-self._lengths // cast(int, module.time_stride))  # halving an odd length rounds up
        inside = torch.arange(features.shape[2], device=features.device) < valid[:, None]
        return (features * inside[:, None, :, None, None],)


_PROBE = 64


def _note_stride(module: nn.Module, inputs: tuple[Tensor]) -> None:
    module.time_stride = _PROBE // inputs[0].shape[2]  # type: ignore[assignment]
