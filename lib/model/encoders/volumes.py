"""A 3D CNN over optical flow of any length, feature maps over time and space kept as tokens."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
import torchvision
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.weights import load_weights
from lib.data.inputs import EncoderInputs
from lib.model import encoders
from lib.model.tokens import Tokens, of_maps
from lib.streams.base import Steps

FLOW_UNIT = 2.0  # pixels; brings typical flow near unit variance


class Conv3d(nn.Sequential):
    """A small 3D CNN for small corpora: four convolutions; time is halved twice, space four times."""

    output_dim = 128

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = (2, 16, 32, 64, self.output_dim)
        for index, stride in enumerate([(1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)]):
            layers += [
                nn.Conv3d(channels[index], channels[index + 1], 3, stride, padding=1, bias=False),
                nn.BatchNorm3d(channels[index + 1]),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


def _video_resnet(name: str, weights: str | None) -> nn.Module:
    """torchvision's video ResNets (Tran et al. 2018) with a two-channel stem, without pooling and classifier.

    Each of the stem's two channels takes the mean of the pretrained three, as in Wang et al. 2016 (Temporal segment
    networks, cross-modality pre-training).
    """
    network = torchvision.models.get_model(name, weights=None)
    load_weights(network, name, weights, "kinetics")
    first = network.stem[0]
    network.stem[0] = nn.Conv3d(2, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False)
    if weights is not None:
        with torch.no_grad():
            network.stem[0].weight.copy_(first.weight.mean(1, keepdim=True).expand(-1, 2, -1, -1, -1))
    backbone = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
    backbone.output_dim = network.fc.in_features
    return backbone


VIDEO_RESNETS = ("r3d_18", "mc3_18", "r2plus1d_18")


class Settings(EncoderInputs):
    """backbone, weights: as params.yaml says."""

    kind: Literal["volumes"]
    backbone: str
    weights: str | None


class Encoder(encoders.Encoder):
    """A 3D CNN whose result for a clip does not depend on how far the batch pads it.

    Before each convolution over time, what lies beyond a clip's end is set to zero, as the convolution's own padding is.
    backbone: conv3d, r3d_18, mc3_18 or r2plus1d_18. weights: None, "kinetics" (Kinetics-400, torchvision's), or the path
    of a state dict of the same network with a three-channel stem.
    Raises InputError if they can't be had or don't fit.
    """

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._stream = encoders.only_stream(settings, shapes, 2)
        backbone, weights = settings.backbone, settings.weights
        if backbone == "conv3d" and weights is not None:
            raise InputError(f"weights = {weights!r} with backbone = conv3d; allowed: null")
        if backbone != "conv3d" and backbone not in VIDEO_RESNETS:
            raise InputError(f"backbone = {backbone!r}; allowed: conv3d, {', '.join(VIDEO_RESNETS)}")
        self.network = Conv3d() if backbone == "conv3d" else _video_resnet(backbone, weights)
        self.output_dim = cast(int, self.network.output_dim)
        self._lengths: Tensor | None = None
        over_time = [m for m in self.network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1]
        with torch.no_grad():  # how much each convolution's input is shortened, learnt from one pass
            probes = [m.register_forward_pre_hook(_note_stride) for m in over_time]
            self.time_stride = _PROBE // self.network.eval()(torch.zeros(1, 2, _PROBE, 32, 32)).shape[2]
            for probe in probes:
                probe.remove()
        self.network.train()
        for module in over_time:
            module.register_forward_pre_hook(self._mask)

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """From flow (B, T, 2, H, W) in pixels to t h w tokens (B, t h w, D)."""
        flow = inputs[self._stream]
        lengths = flow.present.sum(1)
        is_padded = not torch.compiler.is_exporting() and int(lengths.min()) < flow.values.shape[1]
        self._lengths = lengths if is_padded else None
        features = self.network(flow.values.transpose(1, 2) / FLOW_UNIT)  # (B, D, t, h, w)
        times = flow.times[:, :: self.time_stride]
        present = torch.arange(features.shape[2], device=times.device) < -(-lengths // self.time_stride)[:, None]
        return of_maps(features, times, present)

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
