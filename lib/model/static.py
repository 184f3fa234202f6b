"""Static stream: a 2D ResNet over single aligned faces, feature maps kept as tokens."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from lib.errors import InputError

BACKBONES = {
    "resnet10": lambda: ResNet(BasicBlock, [1, 1, 1, 1]),
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
}

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class StaticStream(nn.Module):
    """ResNet (He et al. 2016) with its first `frozen` of five parts (stem, four stages) kept as loaded.

    weights: None, "imagenet", or the path of a state dict. Raises InputError if they can't be had or don't fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, weights: str | None, frozen: int) -> None:
        super().__init__()
        network = BACKBONES[backbone]()
        self.output_dim = network.fc.in_features
        _load(network, backbone, weights)
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.parts = nn.Sequential(stem, network.layer1, network.layer2, network.layer3, network.layer4)
        self._frozen = frozen
        self.parts[:frozen].requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "StaticStream":
        """Frozen parts keep their batch-norm statistics: they stay in evaluation mode."""
        super().train(mode)
        self.parts[: self._frozen].eval()
        return self

    def forward(self, faces: Tensor) -> Tensor:
        """(B, K, 3, S, S) RGB in [0, 1] to feature maps (B, D, K, h, w)."""
        batch, frames = faces.shape[:2]
        features = self.parts((faces.flatten(0, 1) - self.mean) / self.std)  # (B K, D, h, w)
        return features.unflatten(0, (batch, frames)).transpose(1, 2)


def _load(network: nn.Module, backbone: str, weights: str | None) -> None:
    if weights is None:
        return
    if weights == "imagenet":
        if backbone == "resnet10":
            raise InputError("params.yaml: model.static.weights = imagenet; there are none for resnet10, take resnet18")
        url = torchvision.models.get_model_weights(backbone).DEFAULT
        try:
            state = url.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            raise InputError(
                f"ImageNet weights of {backbone} can't be downloaded ({error}); copy {url.url} here and name its path"
                " as model.static.weights in params.yaml"
            ) from None
    elif Path(weights).is_file():
        state = torch.load(weights, map_location="cpu", weights_only=True)
    else:
        raise InputError(f"params.yaml: model.static.weights = {weights!r}; allowed: null, imagenet, or a file's path")
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    wrong = sorted(key for key in own.keys() | state.keys() if own.get(key, _NONE).shape != state.get(key, _NONE).shape)
    if wrong:
        raise InputError(f"model.static.weights = {weights!r} do not fit {backbone}: {', '.join(wrong[:5])} …")
    network.load_state_dict(state, strict=False)


_NONE = torch.empty(0, 0, 0, 0, 0, 0)  # a shape that no weight has
