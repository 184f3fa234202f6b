"""Small pretrained networks whose weights `python -m tools.weights NAME` writes to data/weights/."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.core import weight_files, weights
from lib.core.errors import InputError
from lib.streams.faces import sface

_GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue


class SFace(nn.Module):
    """SFace: embeddings of 128 numbers, similar for images of the same person. It runs on the CPU."""

    def __init__(self, weights_name: str | None) -> None:
        super().__init__()
        self._network = sface.SFace(weights_name, "network = sface")

    def forward(self, pictures: Tensor) -> Tensor:
        """Return embeddings (B, 128) of aligned faces (B, 3, S, S) in [0, 1]."""
        faces = (pictures * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        return torch.from_numpy(self._network(faces)).to(pictures.device)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Liu 2020), trained on ImageNet: 1280 numbers per image."""

    def __init__(self, weights_name: str | None) -> None:
        super().__init__()
        try:
            from timm import create_model  # an optional package
        except ImportError:
            raise InputError(
                "network = efficientnet_lite0, but timm is not installed; allowed without it: other networks; run"
                " pip install -r requirements-transformers.txt"
            ) from None
        self._network = create_model("tf_efficientnet_lite0", num_classes=0)
        state = {name: value for name, value in _load("efficientnet_lite0", weights_name).items() if name[:3] != "_fc"}
        if len(names := self._network.state_dict()) == len(state):  # the file has other names in the same order
            state = dict(zip(names, state.values(), strict=True))
        _fill(self._network, "efficientnet_lite0", state)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return embeddings (B, 1280) of normalised images (B, 3, S, S)."""
        return self._network(pictures)


class PyEmotion(nn.Module):
    """The emotion network of the package PyEmotion: 256 numbers of its last hidden layer, from grey images of 48 pixels."""

    def __init__(self, weights_name: str | None) -> None:
        super().__init__()
        for index, (before, after) in enumerate(((1, 32), (32, 64), (64, 128), (128, 256)), 1):
            stride = 1 if index == 1 else 2
            layers = [nn.ReflectionPad2d(1), nn.Conv2d(before, after, 3, stride), nn.BatchNorm2d(after), nn.ReLU()]
            self.add_module(f"conv_{index}", nn.Sequential(*layers))
        self.linear = nn.Sequential(nn.Linear(256 * 6 * 6, 256), nn.ReLU())
        state = {name: value for name, value in _load("pyemotion", weights_name).items() if "linear.2." not in name}
        _fill(self, "pyemotion", state)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return embeddings (B, 256) of images (B, 3, S, S) in [0, 1]."""
        grey = (pictures * pictures.new_tensor(_GREY).view(3, 1, 1)).sum(1, keepdim=True)
        maps = functional.interpolate(grey, (48, 48), mode="bilinear", antialias=True, align_corners=False) * 2 - 1
        for index in range(1, 5):
            maps = self.get_submodule(f"conv_{index}")(maps)
        return self.linear(maps.flatten(1))


NETWORKS: dict[str, type[nn.Module]] = {
    "sface": SFace,
    "efficientnet_lite0": EfficientNetLite0,
    "pyemotion": PyEmotion,
}
"""Networks by the names of their weights. Each is made from the path of its weights, or from None for data/weights/."""


def find_weights(name: str, weights_name: str | None) -> Path:
    """Return the path of a network's weights, which need not exist."""
    return Path(weights_name) if weights_name else weight_files.find_file(name)


def _load(name: str, weights_name: str | None) -> dict[str, Tensor]:
    path = weights_name or str(weight_files.require_file(name, f"network = {name}"))
    allowed = f"allowed with {name}: null, for the file in data/weights/, or the path of a copy; set it to null"
    return weights.load_published(path, "weights", allowed)


def _fill(network: nn.Module, name: str, state: dict[str, Tensor]) -> None:
    if wrong := weights.find_mismatches(network.state_dict(), state):
        raise InputError(
            f"weights do not fit {name}: {weights.summarise_mismatches(wrong)}; allowed: the file that"
            f" python -m tools.weights {name} writes; set weights to null"
        )
    network.load_state_dict(state)
