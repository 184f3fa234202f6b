"""A 2D network over single pictures: feature maps kept as tokens, or pooled over place, or over place and time."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet

from lib.core.errors import InputError
from lib.core.weights import IMAGENET_MEAN, IMAGENET_STD, load_weights
from lib.model import encoders
from lib.model.recurrent import Last
from lib.model.settings.images import Settings as Settings
from lib.model.tokens import Tokens, make_clip_token, make_map_tokens
from lib.streams.base import Steps

AT_ONCE = 32
"""Pictures that the network is shown at a time where no gradient is asked for."""

_UNIT = ("inception_resnet_v1", "inception_v3")  # trained on pictures in [-1, 1]


class Encoder(encoders.Encoder):
    """A 2D network over single images. The first `frozen` of its five parts (stem, four stages) are not trained.

    backbone: resnet10, vgg (small: blocks of 3x3 convolutions with these numbers of `filters`, and a max pool), or a name of
    a ResNet, ResNeXt, Wide ResNet, ConvNeXt, ViT, VGG, inception_v3 or mobilenet_v2 of torchvision, or
    inception_resnet_v1 (FaceNet's, of facenet-pytorch). weights: None, "imagenet", or the path of a state dict. place:
    "keep" gives a token for each cell of an image's feature map; otherwise the map is pooled. time: "keep" keeps the tokens
    of all images; "max" pools them to one; a GRU or an LSTM of `units` reads them in order, and its last state is the token.
    Raises InputError for an unknown backbone, and if the weights can't be loaded or don't fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._stream = encoders.require_image_stream(settings, shapes, 3)
        backbone, frozen = settings.backbone, settings.frozen
        network, divide = _build(backbone, settings.filters)
        load_weights(network, backbone, settings.weights, "imagenet")
        self.parts, self.output_dim = divide(network)
        self._frozen, self._place, self._time = frozen, settings.place, settings.time
        self.parts[:frozen].requires_grad_(False)
        self.over_time: nn.Module | None = None
        if settings.time in ("gru", "lstm"):
            self.over_time = Last(settings.time, self.output_dim, settings.units)
            self.output_dim = settings.units
        unit = backbone in _UNIT
        self.register_buffer("mean", torch.tensor([0.5] * 3 if unit else IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.5] * 3 if unit else IMAGENET_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Encoder":
        """Frozen parts keep their batch-norm statistics: they stay in evaluation mode."""
        super().train(mode)
        self.parts[: self._frozen].eval()
        return self

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """Pictures (B, T, 3, H, W) in [0, 1] to h w tokens for each: (B, T h w, D), or one: (B, T, D), or one a clip: (B, 1,
        D)."""
        pictures = inputs[self._stream]
        batch, steps = pictures.times.shape
        values = pictures.values.flatten(0, 1)
        if self.training or torch.is_grad_enabled() or torch.compiler.is_exporting():
            features = self._maps(values)
        else:  # nothing is kept for gradients, so that memory is that of a part
            features = torch.cat([self._maps(part) for part in values.split(AT_ONCE)])
        features = features.unflatten(0, (batch, steps)).transpose(1, 2)  # (B, D, T, h, w)
        tokens = make_map_tokens(features, pictures.times, pictures.present)
        if self._time == "keep":
            return tokens
        if self.over_time is None:
            values = tokens.values.masked_fill(~pictures.present[..., None], -torch.inf).amax(1)
        else:
            values = self.over_time(tokens.values, pictures.present)
        return make_clip_token(values, pictures.times, pictures.present)

    def _maps(self, pictures: Tensor) -> Tensor:
        """Maps (N, D, h, w), or (N, D, 1, 1) where they are pooled, of pictures (N, 3, H, W) in [0, 1]."""
        maps = self.parts((pictures - self.mean) / self.std)
        if self._place == "keep":
            return maps
        return maps.amax((2, 3), keepdim=True) if self._place == "max" else maps.mean((2, 3), keepdim=True)


def _build(
    backbone: str, filters: Sequence[Sequence[int]]
) -> tuple[nn.Module, Callable[[Any], tuple[nn.Sequential, int]]]:
    """Return the whole network, and the function that divides it into parts without its classifier."""
    if backbone == "resnet10":
        return ResNet(BasicBlock, [1, 1, 1, 1]), _resnet
    if backbone == "vgg":
        return _small_vgg(filters), _vgg
    if backbone == "inception_resnet_v1":
        from facenet_pytorch import InceptionResnetV1  # an optional package

        return InceptionResnetV1(), _inception_resnet
    families = {
        name: divide
        for name in torchvision.models.list_models(torchvision.models)
        for pattern, divide in _FAMILIES.items()
        if re.fullmatch(pattern, name)
    }
    if backbone not in families:
        raise InputError(f"backbone = {backbone!r}; allowed: resnet10, vgg, inception_resnet_v1, {', '.join(families)}")
    rest = {"init_weights": True} if backbone == "inception_v3" else {}  # its default warns
    return torchvision.models.get_model(backbone, weights=None, **rest), families[backbone]


def _small_vgg(filters: Sequence[Sequence[int]]) -> nn.Module:
    """Blocks of 3x3 convolutions with ReLU, a max pool after each (Simonyan and Zisserman 2015)."""
    layers: list[nn.Module] = []
    before = 3
    for block in filters:
        for channels in block:
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
            before = channels
        layers.append(nn.MaxPool2d(2))
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    return network


def _vgg(network: Any) -> tuple[nn.Sequential, int]:
    layers = network.features
    ends = [0, *(at + 1 for at, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d))]
    last = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)][-1]
    return nn.Sequential(*(layers[a:b] for a, b in pairwise(ends))), last


def _inception(network: Any) -> tuple[nn.Sequential, int]:
    names = (
        "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1",
        "Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2",
        "Mixed_5b Mixed_5c Mixed_5d",
        "Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e",
        "Mixed_7a Mixed_7b Mixed_7c",
    )
    parts = (nn.Sequential(*(network.get_submodule(name) for name in part.split())) for part in names)
    return nn.Sequential(*parts), network.fc.in_features


def _resnet(network: Any) -> tuple[nn.Sequential, int]:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    parts = nn.Sequential(stem, network.layer1, network.layer2, network.layer3, network.layer4)
    return parts, network.fc.in_features


def _convnext(network: Any) -> tuple[nn.Sequential, int]:
    layers, (norm, _, classifier) = network.features, network.classifier
    stages = [layers[:1], layers[1:2], layers[2:4], layers[4:6], nn.Sequential(*layers[6:], norm)]
    return nn.Sequential(*stages), classifier.in_features


def _mobilenet(network: Any) -> tuple[nn.Sequential, int]:
    ends = (0, 2, 4, 7, 14, 19)  # where the picture has been halved
    return nn.Sequential(*(network.features[a:b] for a, b in pairwise(ends))), network.last_channel


def _inception_resnet(network: Any) -> tuple[nn.Sequential, int]:
    stem = (
        network.conv2d_1a, network.conv2d_2a, network.conv2d_2b, network.maxpool_3a,
        network.conv2d_3b, network.conv2d_4a, network.conv2d_4b,
    )  # fmt: skip
    stages = [
        nn.Sequential(*stem),
        network.repeat_1,
        nn.Sequential(network.mixed_6a, network.repeat_2),
        nn.Sequential(network.mixed_7a, network.repeat_3),
        network.block8,
    ]
    return nn.Sequential(*stages), network.last_linear.in_features


def _vit(network: Any) -> tuple[nn.Sequential, int]:
    layers = network.encoder.layers
    quarter = len(layers) // 4
    stages = [layers[start : start + quarter] for start in range(0, len(layers), quarter)]
    stages[-1] = nn.Sequential(*stages[-1], network.encoder.ln)
    return nn.Sequential(_Patches(network), *stages[:-1], nn.Sequential(stages[-1], _Unpatch())), network.hidden_dim


_FAMILIES: dict[str, Callable[[Any], tuple[nn.Sequential, int]]] = {
    r"resnet\d+|resnext.*|wide_resnet.*": _resnet,
    r"convnext_.*": _convnext,
    r"vit_.*": _vit,
    r"mobilenet_v2": _mobilenet,
    r"vgg\d+(_bn)?": _vgg,
    r"inception_v3": _inception,
}


class _Patches(nn.Module):
    """A ViT's patches, class token and positions (Dosovitskiy et al. 2021), positions interpolated to the picture's size."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.projection, self.class_token = network.conv_proj, network.class_token
        self.positions, self.dropout = network.encoder.pos_embedding, network.encoder.dropout

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) to tokens (B, 1 + h w, D)."""
        if pictures.shape[-1] % cast(int, self.projection.stride[0]):
            raise InputError(
                f"images are {pictures.shape[-1]} pixels wide; allowed for a ViT: multiples of {self.projection.stride[0]}"
            )
        patches = self.projection(pictures)  # (B, D, h, w)
        first, others = self.positions[:, :1], self.positions[:, 1:]
        side = round(others.shape[1] ** 0.5)
        grid = others.transpose(1, 2).unflatten(2, (side, side))
        places = functional.interpolate(grid, patches.shape[2:], mode="bicubic", align_corners=False)
        tokens = (patches + places).flatten(2).transpose(1, 2)
        return self.dropout(torch.cat([(self.class_token + first).expand(len(tokens), -1, -1), tokens], 1))


class _Unpatch(nn.Module):
    """Tokens (B, 1 + h w, D) of a square picture back to maps (B, D, h, w), the class token left out."""

    def forward(self, tokens: Tensor) -> Tensor:
        side = round((tokens.shape[1] - 1) ** 0.5)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
