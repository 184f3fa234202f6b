"""EmoNeXt (El Boudouri and Bohi 2023): ConvNeXt with a spatial transformer in front and squeeze-and-excitation between
stages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from lib.core.errors import InputError
from lib.core.weights import find_mismatches, summarise_mismatches
from lib.streams.embeddings.settings import SIZES as SIZES
from lib.streams.embeddings.settings import Se as Se

_EPS = 1e-6
_EXPANSION = 4  # of a block's inner layer, as in ConvNeXt (Liu et al. 2022)
_LOCALISED = 52  # side of the feature map in front of the spatial transformer's linear layer, for images of 224 pixels


class EmoNeXt(nn.Module):
    """Maps images to embeddings (the channels of the last stage). Modules have the names of the published network.

    stn: whether a spatial transformer, initialised to the identity, precedes the network. se: squeeze-and-excitation after
    each downsampling; "none" disables it, with "reference" gates start near 0.5 as published, with "identity" gates start at
    1 (twice a sigmoid of 0), so that the network starts as a plain ConvNeXt. drop_path: stochastic depth, the probability of
    skipping the last block in training; it rises linearly from 0 at the first block (Huang et al. 2016). reduction: the
    channels of a stage divided by the units of its squeeze-and-excitation, 16 as published.
    """

    def __init__(
        self,
        depths: Sequence[int],
        channels: Sequence[int],
        *,
        stn: bool,
        se: Se,
        drop_path: float = 0.0,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        if stn:
            self.localization = nn.Sequential(*_shrink(3, 8, 7), *_shrink(8, 10, 5))
            self.fc_loc = nn.Sequential(nn.Linear(10 * _LOCALISED**2, 32), nn.ReLU(), nn.Linear(32, 6))
        self.stn = stn
        first = nn.Sequential(nn.Conv2d(3, channels[0], 4, 4), _OverChannels(channels[0], _EPS))
        self.downsample_layers = nn.ModuleList([first])
        for before, after in zip(channels[:-1], channels[1:], strict=True):
            layers = [_OverChannels(before, _EPS), nn.Conv2d(before, after, 2, 2)]
            self.downsample_layers.append(
                nn.Sequential(*layers, *([] if se == "none" else [_Excitation(after, se, reduction)]))
            )
        chances = iter(np.linspace(0, drop_path, sum(depths)).tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(wide, next(chances)) for _ in range(count)))
            for count, wide in zip(depths, channels, strict=True)
        )
        self.norm = nn.LayerNorm(channels[-1], _EPS)
        self._initialise(se)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return embeddings (B, D) of images (B, 3, H, W)."""
        maps = self.transformed(pictures) if self.stn else pictures
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            maps = stage(downsample(maps))
        return self.norm(maps.mean((2, 3)))

    def theta(self, pictures: Tensor) -> Tensor:
        """Return the affine maps (B, 2, 3) of the spatial transformer."""
        # at 224 pixels, the only size of the published network, this pooling is the identity
        maps = functional.adaptive_avg_pool2d(self.localization(pictures), _LOCALISED)
        return self.fc_loc(maps.flatten(1)).view(-1, 2, 3)

    def transformed(self, pictures: Tensor) -> Tensor:
        """Return the images resampled by the spatial transformer (Jaderberg et al. 2015)."""
        grid = functional.affine_grid(self.theta(pictures), list(pictures.shape), align_corners=True)
        return functional.grid_sample(pictures, grid, align_corners=True)

    @torch.no_grad()
    def _initialise(self, se: Se) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.stn:
            last: Any = self.fc_loc[2]
            last.weight.zero_()
            last.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
        for module in self.modules():
            if isinstance(module, _Excitation) and se == "identity":
                nn.init.zeros_(module.get_parameter("fc.2.weight"))


class _Block(nn.Module):
    """A ConvNeXt block."""

    def __init__(self, channels: int, drop: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, _EPS)
        self.pwconv1, self.pwconv2 = (
            nn.Linear(channels, _EXPANSION * channels),
            nn.Linear(_EXPANSION * channels, channels),
        )
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.drop = StochasticDepth(drop, "row")

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.pwconv1(self.norm(self.dwconv(maps).permute(0, 2, 3, 1)))
        return maps + self.drop((self.gamma * self.pwconv2(functional.gelu(inner))).permute(0, 3, 1, 2))


class _Excitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018)."""

    def __init__(self, channels: int, se: Se, reduction: int) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        last = nn.Linear(inner, channels, bias=False)
        self.fc = nn.Sequential(nn.Linear(channels, inner, bias=False), nn.ReLU(), last, nn.Sigmoid())
        self._gain = 2 if se == "identity" else 1

    def forward(self, maps: Tensor) -> Tensor:
        return maps * (self._gain * self.fc(maps.mean((2, 3))))[..., None, None]


class _OverChannels(nn.LayerNorm):
    """Layer norm over the channels of maps (B, C, H, W)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


# ---- published weights ----

_UNUSED = ("attention.", "head.", "classifier.2.")
"""Prefixes of published weights that embeddings do not need: the head, and the attention used only in its training."""


def load_published_weights(network: EmoNeXt, state: dict[str, Tensor], source: str) -> list[str]:
    """Load published weights of EmoNeXt, or of ConvNeXt (with its authors' or torchvision's names); return messages to log.

    The weights of the spatial transformer and of squeeze-and-excitation can be missing. Raises InputError, beginning with
    `source`, if other weights are missing, unknown or of another shape.
    """
    weights = {_renamed(name): value for name, value in state.items() if not name.startswith(_UNUSED)}
    weights = {name: value.flatten() if name.endswith("gamma") else value for name, value in weights.items()}
    expected_state, messages = network.state_dict(), []
    for part, belongs in (
        ("the spatial transformer", lambda name: name.startswith(("localization.", "fc_loc."))),
        ("squeeze-and-excitation", lambda name: ".fc." in name),
    ):
        expected, published = ({name for name in names if belongs(name)} for names in (expected_state, weights))
        if expected and not published:
            messages.append(f"the file has no weights of {part}, which keeps its initial weights")
            expected_state = {name: value for name, value in expected_state.items() if name not in expected}
        elif published and not expected:
            messages.append(f"the file's weights of {part} are not used")
            weights = {name: value for name, value in weights.items() if name not in published}
    if wrong := find_mismatches(expected_state, weights):
        raise InputError(f"{source} do not fit: {summarise_mismatches(wrong)}")
    network.load_state_dict(weights, strict=False)
    return messages


_BLOCK = {"0": "dwconv", "2": "norm", "3": "pwconv1", "5": "pwconv2"}


def _shrink(before: int, after: int, side: int) -> list[nn.Module]:
    """Return the layers of a convolution whose output has half the sides."""
    return [nn.Conv2d(before, after, side), nn.BatchNorm2d(after), nn.MaxPool2d(2), nn.ReLU()]


def _renamed(name: str) -> str:
    """Return the published name of a parameter of torchvision's ConvNeXt; other names are returned unchanged."""
    kind, *rest = name.split(".")
    if kind == "classifier":
        return f"norm.{rest[1]}"
    if kind != "features":
        return name
    stage, of_stage = divmod(int(rest[0]), 2)
    if not of_stage:
        return ".".join(["downsample_layers", str(stage), *rest[1:]])
    block = ["stages", str(stage), rest[1]]
    if rest[2] == "layer_scale":
        return ".".join([*block, "gamma"])
    return ".".join([*block, _BLOCK[rest[3]], *rest[4:]])
