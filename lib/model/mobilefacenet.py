"""MobileFaceNet (Chen et al. 2018) as a detector of 68 landmarks, its modules named as in the published weights' file."""

from torch import Tensor, nn
from torch.nn import functional

SIDE = 112
"""Pixels of the square pictures that it takes."""

CHANNELS, GRID = 128, 14
"""Of the feature map: channels, and cells a side."""


class MobileFaceNet(nn.Module):
    """From pictures (B, 3, H, W) to 68 landmarks (B, 136), x and y each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _Unit(3, 64, 3, 2, 1)
        self.conv2_dw = _Unit(64, 64, 3, 1, 1, groups=64)
        self.conv_23 = _Bottleneck(64, 64, 128, 2)
        self.conv_3 = _Residual(64, 128, 4)
        self.conv_34 = _Bottleneck(64, 128, 256, 2)
        self.conv_4 = _Residual(128, 256, 6)
        self.conv_45 = _Bottleneck(128, 128, 512, 2)
        self.conv_5 = _Residual(128, 256, 2)
        self.conv_6_sep = _Unit(128, 512, 1)
        self.output_layer = nn.ModuleDict(
            {
                "conv_6_dw": _Unit(512, 512, 7, groups=512, activated=False),
                "linear": nn.Linear(512, 136, bias=False),
                "bn": nn.BatchNorm1d(136),
            }
        )

    def features(self, pictures: Tensor) -> Tensor:
        """Return the feature map (B, 128, 14, 14) of pictures (B, 3, H, W), scaled to 112 x 112 pixels."""
        x = self.conv2_dw(self.conv1(scaled(pictures)))
        return self.conv_4(self.conv_34(self.conv_3(self.conv_23(x))))

    def landmarks(self, features: Tensor) -> Tensor:
        """Return the landmarks (B, 136) from the feature map."""
        x = self.output_layer["conv_6_dw"](self.conv_6_sep(self.conv_5(self.conv_45(features))))  # (B, 512, 1, 1)
        return self.output_layer["bn"](self.output_layer["linear"](x.flatten(1)))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.landmarks(self.features(pictures))


def scaled(pictures: Tensor) -> Tensor:
    """Return pictures (B, 3, H, W) in 112 x 112 pixels, corners onto corners."""
    if pictures.shape[-2:] == (SIDE, SIDE):
        return pictures
    return functional.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=True)


class _Unit(nn.Module):
    """Convolution, batch norm and, where `activated`, PReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        size: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        activated: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after) if activated else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.prelu is None else self.prelu(x)


class _Bottleneck(nn.Module):
    """To `inner` channels, over the place in each, and back; with a stride of 1 added to what came in."""

    def __init__(self, before: int, after: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv = _Unit(before, inner, 1)
        self.conv_dw = _Unit(inner, inner, 3, stride, 1, groups=inner)
        self.project = _Unit(inner, after, 1, activated=False)
        self._residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        found = self.project(self.conv_dw(self.conv(x)))
        return x + found if self._residual else found


class _Residual(nn.Module):
    """`depth` bottlenecks that keep channels and size."""

    def __init__(self, channels: int, inner: int, depth: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(_Bottleneck(channels, channels, inner, 1) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
