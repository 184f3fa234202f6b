"""A 2D network over single pictures, feature maps kept as tokens."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

import torch
import torchvision
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet

from lib.core.errors import InputError
from lib.data.dataset import Reading
from lib.model.encoders import only_stream
from lib.model.tokens import Tokens, of_maps
from lib.model.weights import load
from lib.streams.base import Sequence as Steps

PARTS = 5
"""Into how many parts each backbone is divided, for freezing: the stem and four stages."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class Settings(Reading):
    """backbone, weights: as params.yaml says; frozen: how many of the five parts stay as loaded."""

    kind: Literal["images"]
    backbone: str
    weights: str | None
    frozen: Annotated[int, Field(ge=0, le=PARTS)]


class Encoder(nn.Module):
    """A 2D network over single pictures, with the first `frozen` of its five parts (stem, four stages) kept as loaded.

    backbone: resnet10 or the name of any ResNet, ResNeXt, Wide ResNet, ConvNeXt, ViT or mobilenet_v2 of torchvision, or
    inception_resnet_v1 (FaceNet's, of facenet-pytorch). weights: None, "imagenet", or the path of a state dict. key: of the
    settings in params.yaml.
    Raises InputError if there is no such backbone, or the weights can't be had or don't fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Settings, shapes: Sequence[Sequence[int]], key: str) -> None:
        super().__init__()
        self._stream = only_stream(settings, shapes, 3, key)
        backbone, frozen = settings.backbone, settings.frozen
        network, divide = _build(backbone, key)
        load(network, backbone, settings.weights, "imagenet", key)
        self.parts, self.output_dim = divide(network)
        self._frozen = frozen
        self.parts[:frozen].requires_grad_(False)
        face = backbone == "inception_resnet_v1"
        self.register_buffer("mean", torch.tensor([0.5] * 3 if face else _MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.5] * 3 if face else _STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Encoder":
        """Frozen parts keep their batch-norm statistics: they stay in evaluation mode."""
        super().train(mode)
        self.parts[: self._frozen].eval()
        return self

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        """Pictures (B, T, 3, H, W) in [0, 1] to h w tokens for each: (B, T h w, D)."""
        pictures = inputs[self._stream]
        batch, steps = pictures.times.shape
        features = self.parts((pictures.values.flatten(0, 1) - self.mean) / self.std)  # (B T, D, h, w)
        features = features.unflatten(0, (batch, steps)).transpose(1, 2)  # (B, D, T, h, w)
        return of_maps(features, pictures.times, pictures.present)


def _build(backbone: str, key: str) -> tuple[nn.Module, Callable[[Any], tuple[nn.Sequential, int]]]:
    """Return the whole network, and the function that divides it into parts without its classifier."""
    if backbone == "resnet10":
        return ResNet(BasicBlock, [1, 1, 1, 1]), _resnet
    if backbone == "inception_resnet_v1":
        from facenet_pytorch import InceptionResnetV1  # only who uses it needs it

        return InceptionResnetV1(), _inception_resnet
    families = {
        name: divide
        for name in torchvision.models.list_models(torchvision.models)
        for pattern, divide in _FAMILIES.items()
        if re.fullmatch(pattern, name)
    }
    if backbone not in families:
        raise InputError(
            f"params.yaml: {key}.backbone = {backbone!r}; allowed: resnet10, inception_resnet_v1, {', '.join(families)}"
        )
    return torchvision.models.get_model(backbone, weights=None), families[backbone]


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
    stages = [layers[at : at + quarter] for at in range(0, len(layers), quarter)]
    stages[-1] = nn.Sequential(*stages[-1], network.encoder.ln)
    return nn.Sequential(_Patches(network), *stages[:-1], nn.Sequential(stages[-1], _Unpatch())), network.hidden_dim


_FAMILIES: dict[str, Callable[[Any], tuple[nn.Sequential, int]]] = {
    r"resnet\d+|resnext.*|wide_resnet.*": _resnet,
    r"convnext_.*": _convnext,
    r"vit_.*": _vit,
    r"mobilenet_v2": _mobilenet,
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
                f"params.yaml: faces.side = {pictures.shape[-1]}; a ViT takes multiples of {self.projection.stride[0]}"
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
